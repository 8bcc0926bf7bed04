"""Telling whether an update would be made of finite numbers, and what to say if not."""

from collections.abc import Iterator, Sequence
from typing import Any, Optional

import torch
from torch import Tensor

from mmgradaug.arguments import shown

# How many names of images a message shows.
SHOWN = 32


class NonFiniteError(FloatingPointError):
    """A loss, a gradient or a weight is not finite, and the update or save was not done."""


def all_finite(tensors: Sequence[Tensor]) -> Optional[Tensor]:
    """Whether all numbers are finite, without waiting for the device.

    Args:
        tensors: losses, gradients or weights, of one device.

    Returns:
        A tensor of 0.0 or 1.0 on the device; None if there is nothing to look at.
    """
    tensors = [t.detach() for t in tensors if t.is_floating_point() and t.numel()]
    if not tensors:
        return None
    # The largest absolute value, not the square norm, which large finite numbers make infinite.
    largest = torch.stack([n.float() for n in torch._foreach_norm(tensors, float('inf'))])
    return torch.isfinite(largest).all().float()


def explain(
    losses: Sequence[Tensor],
    labels: Sequence[str],
    gradients: dict[str, Tensor],
    weights: dict[str, Tensor],
    inputs: Any,
    samples: Any,
) -> str:
    """What is not finite, and where it may have come from; '' if everything is.

    Args:
        losses: of each pass, scalars.
        labels: what each pass is, such as 'the full network (iteration 17)'.
        gradients: by name of the parameter.
        weights: parameters and buffers by name, as they are now.
        inputs: the images of the last batch, in whatever form the data loader gives them.
        samples: what the data loader gives of them, in which their paths are looked for.
    """
    wrong = [
        f'the loss of {label} is {float(loss):g}'
        for loss, label in zip(losses, labels)
        if not torch.isfinite(loss).all()
    ]
    for kind, tensors in (('gradients', gradients), ('weights', weights)):
        names = [name for name, value in tensors.items() if not _finite(value)]
        if names:
            wrong.append(
                f'the {kind} of {len(names)} parameters or buffers, {names[0]} for instance'
            )
    if not wrong:
        return ''
    paths = list(paths_of(samples))
    bad = [index for index, image in enumerate(_images(inputs)) if not _finite(image)]
    spoilt = [paths[index] if index < len(paths) else f'number {index}' for index in bad]
    text = f'not finite: {"; ".join(wrong)}.'
    if spoilt:
        text += f' Images that are not finite themselves: {shown(spoilt, SHOWN)}.'
    if paths:
        text += f' Images of the batch: {shown(paths, SHOWN)}.'
    return text


def describe_pass(index: int, subnet: Any) -> str:
    """What a pass of an iteration is, in words.

    Args:
        index: 0 for the first pass of the iteration.
        subnet: the :class:`~mmgradaug.subnets.Subnet` that the network was; None for the full network.
    """
    if subnet is None:
        return 'the full network' if index == 0 else f'pass {index}'
    text = f'sub-network {index - 1} at width {subnet.width:.4g} on {subnet.transform}'
    if getattr(subnet, 'dropped_blocks', None):
        text += f' without blocks {list(subnet.dropped_blocks)}'
    return text


def paths_of(samples: Any) -> Iterator[str]:
    """The files that a batch is of, wherever they are in what a data loader gives."""
    if isinstance(samples, dict):
        samples = samples.values()
    elif not isinstance(samples, (list, tuple)):
        for name in ('img_path', 'sample_idx', 'img_id'):
            value = getattr(samples, name, None)
            if value is not None:
                yield str(value)
                break
        return
    for sample in samples:
        yield from paths_of(sample)


def _images(inputs: Any) -> Iterator[Tensor]:
    if isinstance(inputs, dict):
        inputs = list(inputs.values())
    if isinstance(inputs, Tensor) and inputs.dim() <= 3:
        yield inputs
    elif isinstance(inputs, (list, tuple, Tensor)):
        for part in inputs:
            yield from _images(part)


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
