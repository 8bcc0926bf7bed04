"""The passes of one GradAug iteration, written once, and GradAug for any training loop of PyTorch."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmgradaug.arguments import refuse_unknown_keys
from mmgradaug.slimming import ChannelPlan, plan_channels, remember_plan
from mmgradaug.slimming.planning import check_sizes
from mmgradaug.subnets import (
    BatchTransform,
    ImageBatch,
    Schedule,
    SoftLabelLoss,
    Subnet,
    SubnetSampler,
    check_soft_labels_switch,
    drawn_sizes,
)

LogValues = dict[str, Union[Tensor, float]]


@dataclass(frozen=True)
class Pass:
    """One of the n + 1 passes of an iteration.

    Args:
        index: 0 for the full network, then 1 to n.
        subnet: None for the full network.
        last: gradients are exchanged between ranks, and the update follows.
    """

    index: int
    subnet: Optional[Subnet]
    last: bool

    @property
    def name(self) -> str:
        return 'full' if self.subnet is None else f'subnet{self.index - 1}'


def run_passes(
    model: nn.Module,
    plan: ChannelPlan,
    run: nn.Module,
    subnets: Sequence[Subnet],
    forward: Callable[[Pass], tuple[Tensor, dict[str, Tensor]]],
    backward: Callable[[Tensor, Pass], None],
) -> LogValues:
    """One iteration: the full network, then each sub-network (Algorithm 1).

    Each of the n + 1 passes goes forward and backward on its own and gradients add up (Eq. 4: a sum,
    not a mean), so no two passes' activations are alive together. Gradients are exchanged between ranks in
    the last pass alone.

    Args:
        model: the network.
        plan: says which channels its sub-networks have, whatever plan was made for the model since.
        run: what ``forward`` calls: ``model`` itself, or the distributed wrapper around it.
        subnets: of this iteration.
        forward: computes a pass's loss, a scalar, and its parts for the log.
        backward: of that loss.

    Returns:
        Values for the log: ``loss`` (the sum), ``loss_full`` and the full pass's own parts,
        ``loss_subnet{i}`` and what describes the sub-network, such as ``width_subnet{i}``.
    """
    remember_plan(model, plan)
    log_values: LogValues = {}
    no_sync = getattr(run, 'no_sync', None)
    for index, subnet in enumerate([None, *subnets]):
        each = Pass(index, subnet, last=index == len(subnets))
        # The backward pass too belongs inside the sub-network: with_cp computes layers again there.
        with ExitStack() as stack:
            if subnet is not None:
                stack.enter_context(subnet.enter(model))
            if not each.last and no_sync is not None:
                stack.enter_context(no_sync())
            loss, parts = forward(each)
            backward(loss, each)
        # Detached, or the log would keep the pass's graph alive through the next one.
        loss = loss.detach()
        log_values['loss'] = log_values['loss'] + loss if index else loss
        log_values[f'loss_{each.name}'] = loss
        if subnet is None:
            log_values.update({k: v.detach() for k, v in parts.items() if k != 'loss'})
        else:
            for name, value in subnet.log_values(model).items():
                log_values[f'{name}_{each.name}'] = value
        del loss, parts
    return log_values


class GradAug:
    """GradAug (NeurIPS 2020) in a training loop of one's own.

    The model stays what it is, and so do its checkpoints. It may be wrapped in
    ``DistributedDataParallel``: gradients are exchanged once an iteration, and each rank calls
    :meth:`backward` with its own images.

    Example:
        >>> import torch
        >>> import torch.nn.functional as F
        >>> from torch import nn
        >>> from mmgradaug import GradAug, RandomResize
        >>> model = nn.Sequential(
        ...     nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(),
        ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> gradaug = GradAug(model, num_subnets=2, min_width=0.8, transforms=RandomResize([32, 28, 24]))
        >>> loader = [(torch.rand(8, 3, 32, 32), torch.randint(10, (8,))) for _ in range(2)]
        >>> for images, labels in loader:
        ...     losses = gradaug.backward(images, labels, F.cross_entropy)  # 3 backward passes add up
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> list(losses)
        ['loss', 'loss_full', 'loss_subnet0', 'width_subnet0', 'loss_subnet1', 'width_subnet1']
        >>> model[1].num_batches_tracked  # of the full network's passes alone
        tensor(2)

    Args:
        model: any network that maps a batch of images (N, C, H, W) to logits (N, classes).
        num_subnets, min_width, transforms: see :class:`~mmgradaug.subnets.SubnetSampler`.
        seed: of the draws, which are a function of (seed, iteration).
        begin, end: the iterations, counted from 0, from which on and before which there are sub-networks;
            None for the end of training.
        soft_labels: True, the paper's, has sub-networks learn the full network's output; False has them
            learn ``targets`` by ``criterion``.
        soft_label_loss: of a sub-network's logits and the full network's; ``SoftLabelLoss()`` by default.
        example_input: a batch that the model accepts, where it accepts no ordinary images; see
            :func:`~mmgradaug.slimming.plan_channels`.
        within: names of the submodules whose channels are narrowed; None for all.
        logits: takes the logits out of what the model returns, where that is more than one tensor.
        **settings: further ones of :class:`~mmgradaug.subnets.SubnetSampler`: ``smallest_if_single``,
            ``survival_prob``, ``every``, ``batch_fraction``, ``widths``, ``width_divisor``, ...

    Raises:
        TypeError, ValueError: a hyperparameter is out of its range, or the distributed wrapper cannot do
            what is asked of it.
        SlimmingError: the model has no sub-networks, or cannot take a size that ``transforms`` draws.
    """

    def __init__(
        self,
        model: nn.Module,
        num_subnets: int = 3,
        min_width: Optional[float] = None,
        transforms: Union[BatchTransform, Sequence[BatchTransform], None] = None,
        *,
        seed: int = 0,
        begin: int = 0,
        end: Optional[int] = None,
        soft_labels: bool = True,
        soft_label_loss: Optional[Callable[[Tensor, Tensor], Tensor]] = None,
        example_input: Any = None,
        within: Optional[Sequence[str]] = None,
        logits: Callable[[Any], Tensor] = lambda outputs: outputs,
        **settings: Any,
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f'seed must be a whole number, 0 or more, got {seed!r}')
        self.model = model
        if isinstance(model, nn.DataParallel):
            raise TypeError(
                'DataParallel runs copies of the model, which have no sub-networks: give its .module, on several '
                'GPUs in DistributedDataParallel'
            )
        self.network = model.module if isinstance(model, DistributedDataParallel) else model
        refuse_unknown_keys('GradAug', settings, SubnetSampler)
        self.sampler = SubnetSampler(num_subnets, min_width, transforms, **settings)
        self.schedule = Schedule(begin, end)
        self.soft_labels = check_soft_labels_switch(soft_labels, soft_label_loss is not None)
        self.soft_label_loss = SoftLabelLoss() if soft_label_loss is None else soft_label_loss
        self.logits = logits
        self.seed = seed
        self.iteration = 0
        self.plan = plan_channels(
            self.network, example_input, within=within, widths=self.sampler.probe_widths()
        )
        check_sizes(self.network, self.plan, drawn_sizes(self.sampler.transform))
        self.sampler.bind(self.network)
        if isinstance(model, DistributedDataParallel):
            _check_wrapper(model, self.sampler)

    def backward(
        self,
        images: Tensor,
        targets: Any,
        criterion: Callable[[Any, Any], Tensor],
        *,
        backward: Callable[[Tensor], None] = Tensor.backward,
        iteration: Optional[int] = None,
    ) -> LogValues:
        """All passes of one iteration, forward and backward; the optimizer's step is the caller's.

        Under ``torch.autocast`` the forward passes run in its precision.

        Args:
            images: (N, C, H, W), as the full network sees them: after normalisation, Mixup or CutMix.
            targets: whatever ``criterion`` takes.
            criterion: the full network's loss, of (the model's output, targets); a scalar.
            backward: of each pass's loss. With a GradScaler ``lambda loss: scaler.scale(loss).backward()``,
                with k batches an update ``lambda loss: (loss / k).backward()``, in Lightning
                ``self.manual_backward``.
            iteration: the number of this iteration; by default they are counted from 0.

        Returns:
            Losses, detached, and widths; see :func:`run_passes`.

        Raises:
            TypeError: the logits are no tensor.
        """
        if iteration is not None:
            self.iteration = iteration
        subnets = []
        if self.iteration in self.schedule:
            subnets = self.sampler.sample(self.seed, self.iteration)
        batch = ImageBatch(images)
        soft_labels: list[Tensor] = []

        def forward(each: Pass) -> tuple[Tensor, dict[str, Tensor]]:
            # Where one autocast context spans iterations, weights from before the last update are in its cache.
            torch.clear_autocast_cache()
            if each.subnet is None:
                outputs = self.model(images)
                if subnets and self.soft_labels:
                    # A copy, which a criterion that works in place does not change.
                    soft_labels.append(self._logits(outputs).detach().clone())
                return criterion(outputs, targets), {}
            seen, chosen = each.subnet.see(batch)
            learned = soft_labels[0] if self.soft_labels else targets
            if chosen is not None:
                learned = _select(learned, chosen, len(images))
            outputs = self.model(seen.images)
            if not self.soft_labels:
                return criterion(outputs, learned), {}
            return self.soft_label_loss(self._logits(outputs), learned), {}

        def run_backward(loss: Tensor, each: Pass) -> None:
            with torch.autocast(images.device.type, enabled=False):
                backward(loss)

        log_values = run_passes(self.network, self.plan, self.model, subnets, forward, run_backward)
        self.iteration += 1
        return log_values

    def _logits(self, outputs: Any) -> Tensor:
        logits = self.logits(outputs)
        if not isinstance(logits, Tensor):
            raise TypeError(
                f'the model returns a {type(logits).__name__}, from which GradAug cannot take logits: '
                'write GradAug(..., logits=lambda outputs: outputs[0]), for instance'
            )
        return logits

    def state_dict(self) -> dict[str, int]:
        """What to save beside the model, so that a resumed run draws what an uninterrupted one would."""
        return {'seed': self.seed, 'iteration': self.iteration}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.seed, self.iteration = state['seed'], state['iteration']


def _select(targets: Any, chosen: Tensor, size: int) -> Any:
    """The targets of some images of ``size``.

    Rows of tensors, and items of lists and tuples whose items are one an image: as many as images, and of one
    type. Also inside lists, tuples and dicts. Numbers and the like, such as Mixup's share, stay.

    Raises:
        TypeError: nothing in them is one an image, or it cannot be told what is.
    """
    problem = f'batch_fraction: the targets of a part of {size} images cannot be chosen, since '
    held = found = False

    def select(value: Any) -> Any:
        nonlocal held, found
        if isinstance(value, Tensor):
            is_rows = value.dim() > 0 and len(value) == size
            held, found = held or value.dim() > 0, found or is_rows
            return value[chosen] if is_rows else value
        if isinstance(value, dict):
            return {key: select(each) for key, each in value.items()}
        if not isinstance(value, (list, tuple)):
            return value
        if hasattr(value, '_fields'):
            return type(value)(*map(select, value))
        held = held or bool(value)
        if len(value) == size and len(set(map(type, value))) == 1:
            if all(isinstance(each, Tensor) and each.shape[:1] == (size,) for each in value):
                raise TypeError(
                    f'{problem}a {type(value).__name__} of {size} tensors of {size} rows each may hold one tensor an '
                    'image or one row an image: give a dict of tensors'
                )
            found = True
            return type(value)(value[i] for i in chosen.tolist())
        return type(value)(map(select, value))

    selected = select(targets)
    if held and not found:
        raise TypeError(
            f'{problem}nothing in them, a {type(targets).__name__}, has one row or item an image'
        )
    return selected


def _check_wrapper(model: DistributedDataParallel, sampler: SubnetSampler) -> None:
    if model.static_graph:
        raise ValueError(
            'static_graph means the same graph in every pass, which sub-networks have not: leave it out'
        )
    if sampler.leaves_parameters_unused and not model.find_unused_parameters:
        raise ValueError(
            'sub-networks by depth leave parameters without gradient, for which DDP would wait: write '
            'DistributedDataParallel(model, find_unused_parameters=True)'
        )
