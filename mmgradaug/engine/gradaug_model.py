"""What every GradAug model of OpenMMLab shares, whatever its task."""

import inspect
from typing import Any, Optional

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper

from mmgradaug.arguments import refuse_unknown_keys
from mmgradaug.registry import build_batch_transform
from mmgradaug.slimming import plan_channels, remember_plan
from mmgradaug.slimming.planning import check_sizes
from mmgradaug.subnets import (
    Batch,
    SoftLabelLoss,
    Subnet,
    SubnetSampler,
    drawn_sizes,
    with_preset,
)

from .gradaug_step import gradaug_step

Losses = dict[str, Any]


class GradAugMixin(BaseModel):
    """Turns an OpenMMLab model into one that trains by GradAug; comes first among the bases.

    A task says in a subclass what its batch is (:meth:`make_batch`), what the full pass is
    (:meth:`full_pass`) and what a sub-network's pass is (:meth:`subnet_pass`). The channels of the
    backbone are narrowed; neck and heads give all of theirs.

    Args:
        gradaug: the method's hyperparameters: those of :class:`~mmgradaug.subnets.SubnetSampler`
            (``num_subnets``, ``min_width``, ``transforms``, ...); ``preset``, 'paper' or 'economy', for those
            that are not given, see :func:`~mmgradaug.subnets.preset`;
            ``soft_label_loss``, the options of :class:`~mmgradaug.subnets.SoftLabelLoss`; and
            ``example_shape``, (channels, height, width) of images that the model accepts, which is
            needed only where it accepts no ordinary ones.
        *args, **kwargs: the stock model's.

    Raises:
        TypeError, ValueError, SlimmingError: a hyperparameter is unknown or out of range, or the
            network has no sub-networks, or cannot take a size that ``transforms`` may draw.
    """

    # Keys of gradaug=dict(...) besides the sampler's; a task adds its own and reads them itself.
    own_options: tuple[str, ...] = ('soft_label_loss', 'example_shape')
    # What error messages say to write.
    example_transforms: str = "dict(type='RandomResize', sizes=[224, 192, 160, 128])"
    # Names of the parts whose channels are narrowed.
    narrowed_parts: tuple[str, ...] = ('backbone',)

    def __init__(self, *args: Any, gradaug: Optional[dict[str, Any]] = None, **kwargs: Any) -> None:
        if not isinstance(gradaug, dict):
            raise TypeError(
                f'{type(self).__name__} needs its hyperparameters, got gradaug={gradaug!r}: write '
                f'gradaug=dict(num_subnets=3, min_width=0.9, transforms={self.example_transforms})'
            )
        known = [key for key in inspect.signature(SubnetSampler).parameters if key != 'axes']
        refuse_unknown_keys('gradaug', gradaug, [*known, 'preset', *self.own_options])
        gradaug = with_preset(gradaug)
        options = {key: gradaug[key] for key in gradaug if key not in self.own_options}
        soft_label_loss = gradaug.get('soft_label_loss') or {}
        refuse_unknown_keys('gradaug.soft_label_loss', soft_label_loss, SoftLabelLoss)
        if options.get('transforms'):
            options['transforms'] = build_batch_transform(options['transforms'])
        sampler = SubnetSampler(**options)
        super().__init__(*args, **kwargs)
        self.subnet_sampler = sampler
        self.soft_label_loss = SoftLabelLoss(**soft_label_loss)
        self._announced: Optional[tuple[int, int, bool]] = None
        shape = gradaug.get('example_shape')
        example = None if shape is None else torch.zeros(2, *shape)
        self.channel_plan = plan_channels(
            self,
            example,
            forward=type(self).trial_forward,
            within=self.narrowed_parts,
            widths=sampler.probe_widths(),
        )
        check_sizes(self, self.channel_plan, drawn_sizes(sampler.transform))
        sampler.bind(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Copies and unpickled models have the same sub-networks; a plan made anew would narrow the heads too.
        super().__setstate__(state)
        if 'channel_plan' in state:
            remember_plan(self, self.channel_plan)

    @property
    def leaves_parameters_unused(self) -> bool:
        """Whether a pass may leave parameters without gradient, which DDP has to be prepared for."""
        return self.subnet_sampler.leaves_parameters_unused

    def trial_forward(self, images: torch.Tensor) -> Any:
        """What is run on example images to see which sub-networks exist: whatever is narrowed."""
        return self(images)

    def make_batch(self, *args: Any, **data: Any) -> Batch:
        """The task's batch, from what the data preprocessor gives, which comes by keywords."""
        raise TypeError(f'{type(self).__name__} must override make_batch()')

    def full_pass(self, batch: Any, record: bool) -> tuple[Losses, Any]:
        """Losses of the full network on the batch, and what sub-networks need of its outputs, detached.

        Args:
            batch: preprocessed; what :meth:`make_batch` made, as in the other passes.
            record: False where no sub-network follows; then the second result is not used.
        """
        raise TypeError(f'{type(self).__name__} must override full_pass()')

    def subnet_pass(self, batch: Any, recorded: Any) -> Losses:
        """Losses of the network, now in a sub-network's state.

        Args:
            batch: transformed.
            recorded: what :meth:`full_pass` gave.
        """
        raise TypeError(f'{type(self).__name__} must override subnet_pass()')

    def select_recorded(self, recorded: Any, indices: torch.Tensor) -> Any:
        """What :meth:`full_pass` recorded of the images with these numbers, (K,) int64."""
        raise TypeError(f'{type(self).__name__} must override select_recorded()')

    def announce_iteration(self, seed: int, iteration: int, active: bool) -> None:
        """Called by GradAugHook before each iteration; used up by the next ``train_step``."""
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
            return self.subnet_pass(*args, **kwargs)
        if mode == 'loss' and self.training:
            raise RuntimeError(
                f"forward(mode='loss') would train {type(self).__name__} without sub-networks. "
                'Something calls it past train_step; if that is a distributed wrapper, write '
                "model_wrapper_cfg = dict(type='mmgradaug.GradAugDistributedDataParallel') in the "
                'config'
            )
        return super().forward(*args, mode=mode, **kwargs)
