"""What every GradAug model shares, whatever its task."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmgradaug.arguments import refuse_unknown_keys
from mmgradaug.slimming import SlimmingError, residual_blocks, slimmable_layers, try_subnetworks
from mmgradaug.subnets import BatchOperation, SoftLabelLoss, Subnet, SubnetSampler

from .gradaug_step import gradaug_step

Losses = dict[str, Any]


class GradAugMixin:
    """Turns an OpenMMLab model into one that trains by GradAug; comes first among the bases.

    A task says in a subclass what is slimmed (:meth:`slim`), what the full pass is
    (:meth:`full_pass`) and what a sub-network's pass is (:meth:`subnet_pass`).

    Args:
        gradaug: the method's hyperparameters: those of :class:`~mmgradaug.subnets.SubnetSampler`
            (``num_subnets``, ``min_width``, ``transforms``, ``smallest_if_single``, ``survival_prob``);
            ``soft_label_loss``, the options of :class:`~mmgradaug.subnets.SoftLabelLoss`; and
            ``example_shape``, (channels, height, width) of images that the model accepts, which is
            needed only where it accepts no ordinary ones.
        *args, **kwargs: the stock model's.

    Raises:
        TypeError, ValueError, SlimmingError: a hyperparameter is unknown or out of range, or the
            network cannot be slimmed or has nothing to slim.
    """

    # Keys of gradaug=dict(...) besides the sampler's; a task adds its own and reads them itself.
    own_options: tuple[str, ...] = ('soft_label_loss', 'example_shape')
    # What error messages say to write.
    example_transforms: str = "dict(type='RandomResize', sizes=[224, 192, 160, 128])"

    def __init__(self, *args: Any, gradaug: Optional[dict[str, Any]] = None, **kwargs: Any) -> None:
        if not isinstance(gradaug, dict):
            raise TypeError(
                f'{type(self).__name__} needs its hyperparameters, got gradaug={gradaug!r}: write '
                f'gradaug=dict(num_subnets=3, min_width=0.9, transforms={self.example_transforms})'
            )
        options = {key: gradaug[key] for key in gradaug if key not in self.own_options}
        known = [*inspect.signature(SubnetSampler).parameters, *self.own_options]
        refuse_unknown_keys('gradaug', gradaug, known)
        soft_label_loss = gradaug.get('soft_label_loss') or {}
        refuse_unknown_keys('gradaug.soft_label_loss', soft_label_loss, SoftLabelLoss)
        sampler = SubnetSampler(**options)
        super().__init__(*args, **kwargs)
        self.subnet_sampler = sampler
        self.soft_label_loss = SoftLabelLoss(**soft_label_loss)
        self._announced: Optional[tuple[int, int, bool]] = None
        self.slim()
        shape = gradaug.get('example_shape')
        example = None if shape is None else torch.zeros(2, *shape)
        try_subnetworks(self, example, forward=type(self).trial_forward)
        if sampler.survival_prob < 1.0:
            sampler.num_blocks = len(residual_blocks(self))
            if not sampler.num_blocks:
                raise SlimmingError(
                    f'survival_prob={sampler.survival_prob:g} draws sub-networks by depth, but this '
                    f'{type(self).__name__} has no residual blocks that can be left out: take ResNet, '
                    'ResNet_CIFAR, mmgradaug.WideResNet or mmgradaug.PyramidNet, or leave it out'
                )

    @property
    def leaves_parameters_unused(self) -> bool:
        """Whether a pass may leave parameters without gradient, which DDP has to be prepared for."""
        return self.subnet_sampler.survival_prob < 1.0

    def slim(self) -> int:
        """Convert what sub-networks slim, in place; again after layers were replaced.

        Returns:
            The number of slimmable layers.
        """
        raise SlimmingError(f'{type(self).__name__} does not say what is slimmed: override slim()')

    def trial_forward(self, images: torch.Tensor) -> Any:
        """What is run on example images to see that sub-networks exist: whatever is slimmed."""
        return self(images)

    def full_pass(self, *, give_soft_labels: bool, **batch: Any) -> tuple[Losses, Any]:
        """Losses of the full network on the preprocessed batch, and its soft labels, detached."""
        raise TypeError(f'{type(self).__name__} must override full_pass()')

    def subnet_pass(self, *, transform: BatchOperation, soft_labels: Any, **batch: Any) -> Losses:
        """Losses of the network, now in a sub-network's state, on the transformed batch."""
        raise TypeError(f'{type(self).__name__} must override subnet_pass()')

    def announce_iteration(self, seed: int, iteration: int, active: bool) -> None:
        """GradAugHook's word before each iteration, good for one ``train_step``."""
        self._announced = (seed, iteration, active)

    def draw_subnets(self) -> list[Subnet]:
        """The sub-networks of the announced iteration; none outside GradAug's schedule.

        Raises:
            RuntimeError: no iteration was announced, which means that the hook is missing.
        """
        if self._announced is None:
            raise RuntimeError(
                f'{type(self).__name__} was not told which iteration this is, so it cannot draw '
                "sub-networks. Write custom_hooks = [dict(type='mmgradaug.GradAugHook')] in the "
                'config, or call announce_iteration() before each train_step() of your own loop'
            )
        seed, iteration, active = self._announced
        self._announced = None
        return self.subnet_sampler.sample(seed, iteration) if active else []

    def train_step(self, data: dict[str, Any], optim_wrapper: OptimWrapper) -> dict[str, Any]:
        """One GradAug iteration in a single process; see :func:`gradaug_step`."""
        return gradaug_step(self, self, data, optim_wrapper)

    def forward(self, *args: Any, mode: str = 'tensor', **kwargs: Any) -> Any:
        """The stock model's modes, and the two kinds of passes of a GradAug step.

        Raises:
            RuntimeError: ``mode='loss'`` in training, which would be plain training.
        """
        if mode == 'full_pass':
            return self.full_pass(*args, **kwargs)
        if mode == 'subnet_pass':
            with statistics_untouched(self):
                return self.subnet_pass(*args, **kwargs)
        if mode == 'loss' and self.training:
            raise RuntimeError(
                f"forward(mode='loss') would train {type(self).__name__} without sub-networks. "
                'Something calls it past train_step; if that is a distributed wrapper, write '
                "model_wrapper_cfg = dict(type='mmgradaug.GradAugDistributedDataParallel') in the "
                'config'
            )
        return super().forward(*args, mode=mode, **kwargs)


@contextmanager
def statistics_untouched(model: nn.Module) -> Iterator[None]:
    """What a pass counts or averages in buffers is forgotten: only the full pass moves statistics.

    Slimmable batch norms see to that themselves. Others are for instance the numbers of samples by class
    of a seesaw loss. In the context modules have copies of their buffers, so that the originals are not
    changed in place under a graph that still needs them.
    """
    slimmable = set(slimmable_layers(model))
    originals = [
        (module, name, buffer)
        for module in model.modules()
        if module not in slimmable
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    for module, name, buffer in originals:
        module._buffers[name] = buffer.clone()
    try:
        yield
    finally:
        for module, name, buffer in originals:
            module._buffers[name] = buffer
