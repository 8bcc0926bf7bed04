"""Taking a sub-network out: a plain, smaller network."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .errors import SlimmingError
from .narrowing import is_narrowed, narrowed, narrowed_attributes
from .plan import ChannelPlan
from .planning import plan_of, runs_alone


@dataclass(frozen=True)
class Smaller:
    """In what a sub-network differs from the full network.

    Example:
        >>> from torch import nn
        >>> from mmgradaug.slimming import smaller_network
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> smaller_network(model, 0.5).attributes
        {'0': {'out_features': 8}, '2': {'in_features': 8}}

    Args:
        shapes: by name, the shapes of parameters and buffers that are smaller.
        attributes: by module, the attributes that have another value.
    """

    shapes: dict[str, tuple[int, ...]]
    attributes: dict[str, dict[str, Any]]


def extract_subnetwork(
    model: nn.Module, width: float, plan: Optional[ChannelPlan] = None
) -> nn.Module:
    """The sub-network of ``width`` as a network of its own, really smaller, with cloned weights.

    Its classes and names are the model's. In eval mode it computes what ``model`` does inside
    ``subnetwork(model, width)``, bit for bit: with the first entries of the full network's running
    statistics, which are *not* the sub-network's own, as training moves them in the full pass alone
    (paper, Section 3.1). :func:`recalibrate_statistics` measures those.

    Modules that are no layers keep their attributes, a ``feat_dim`` for instance, unless these count
    channels that are narrowed in them.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmgradaug import extract_subnetwork, subnetwork
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
        >>> small = extract_subnetwork(model, 0.5)
        >>> small[0]
        Linear(in_features=8, out_features=8, bias=True)
        >>> x = torch.ones(2, 8)
        >>> with subnetwork(model, 0.5):
        ...     print(torch.equal(model(x), small(x)))
        True

    Args:
        model: any network. It stays as it is.
        width: in (0, 1]; at 1.0 the extracted network is the full one.
        plan: see :func:`~mmgradaug.slimming.subnetwork`.

    Raises:
        ValueError: ``width`` is not in (0, 1].
        SlimmingError: the model has no sub-networks, or its code splits channels evenly where this
            sub-network has uneven parts (ShuffleNetV2).
    """
    plan = plan_of(model) if plan is None else plan
    smaller = smaller_network(model, width, plan)
    small = copy.deepcopy(model)
    values = {}
    with torch.no_grad(), narrowed(small, plan, plan.kept(width)):
        for name in smaller.shapes:
            values[name] = _tensor(small, name).detach().clone()
    shrink(small, smaller.shapes, smaller.attributes)
    with torch.no_grad():
        for name, value in values.items():
            _tensor(small, name).copy_(value)
    runs_alone(small, plan, width)
    return small


def smaller_network(model: nn.Module, width: float, plan: Optional[ChannelPlan] = None) -> Smaller:
    """What differs in the sub-network of ``width``; arguments and errors as above.

    Example:
        >>> from torch import nn
        >>> from mmgradaug.slimming import smaller_network
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> smaller_network(model, 0.5).shapes
        {'0.weight': (8, 8), '0.bias': (8,), '2.weight': (3, 8)}
    """
    if not 0.0 < width <= 1.0:
        raise ValueError(f'width must be in (0, 1], got {width}')
    plan = plan_of(model) if plan is None else plan
    full = {name: tuple(_tensor(model, name).shape) for name in plan.selections}
    with torch.no_grad(), narrowed(model, plan, plan.kept(width)):
        shapes = {name: tuple(_tensor(model, name).shape) for name in full}
        attributes = narrowed_attributes(model)
    return Smaller({k: v for k, v in shapes.items() if v != full[k]}, attributes)


# `mmgradaug extract` writes this function into a file for users of MMPretrain alone.
def shrink(model: nn.Module, shapes: dict[str, Any], attributes: dict[str, dict[str, Any]]) -> None:
    """Make parameters and buffers smaller and set attributes, in place; values are to be loaded after.

    Example:
        >>> from torch import nn
        >>> from mmgradaug.slimming import shrink
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 3))
        >>> shapes = {'0.weight': (5, 8), '0.bias': (5,), '1.weight': (3, 5)}
        >>> shrink(model, shapes, {'0': {'out_features': 5}, '1': {'in_features': 5}})
        >>> model[1], model[1].weight.shape
        (Linear(in_features=5, out_features=3, bias=True), torch.Size([3, 5]))

    Args:
        model: any network.
        shapes: by name, the shapes of parameters and buffers.
        attributes: by module, attributes and their values.
    """
    made = {}  # tied parameters stay tied
    for name, shape in shapes.items():
        owner, _, attribute = name.rpartition('.')
        module = model.get_submodule(owner)
        value = getattr(module, attribute)
        if value not in made:
            small = value.detach().new_zeros(tuple(shape))
            if isinstance(value, nn.Parameter):
                small = nn.Parameter(small, requires_grad=value.requires_grad)
            made[value] = small
        setattr(module, attribute, made[value])
    for name, values in attributes.items():
        for attribute, value in values.items():
            old = getattr(model.get_submodule(name), attribute)
            value = type(old)(value) if isinstance(old, (tuple, list)) else value
            setattr(model.get_submodule(name), attribute, value)


def _tensor(model: nn.Module, name: str) -> Tensor:
    owner, _, attribute = name.rpartition('.')
    return getattr(model.get_submodule(owner), attribute)


def recalibrate_statistics(
    model: nn.Module,
    batches: Iterable[Tensor],
    forward: Optional[Callable[[nn.Module, Tensor], Any]] = None,
) -> int:
    """Measure the running statistics of a plain network's batch norms anew.

    Each becomes the mean over the batches of the batches' own statistics. Meanwhile batch norms
    normalise by the batch, everything else (dropout, stochastic depth) is in eval mode. US-Net
    (arXiv:1903.05134, Section 3.4), from which the paper takes its training tricks, does so after
    training.

    Example:
        >>> import torch
        >>> from mmgradaug.slimming import recalibrate_statistics
        >>> norm = torch.nn.BatchNorm1d(1)
        >>> recalibrate_statistics(norm, [torch.tensor([[0.0], [2.0]]), torch.tensor([[2.0], [4.0]])])
        2
        >>> norm.running_mean  # of the batches' means, 1 and 3
        tensor([2.])

    Args:
        model: a network that :func:`extract_subnetwork` gave, or any other.
        batches: of preprocessed training images, (N, C, H, W), N above 1.
        forward: what to run; by default the model itself.

    Returns:
        The number of batches.

    Raises:
        ValueError: there is no batch. Then, and after any other error, the statistics are as they were.
        SlimmingError: the model is one of its sub-networks at the moment.
    """
    if any(is_narrowed(module) for module in model.modules()):
        raise SlimmingError(
            'recalibrate_statistics would measure into the full network: use it outside of subnetwork(), on '
            'what extract_subnetwork(model, width) gives'
        )
    norms = [
        layer
        for layer in model.modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    ]
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    before = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    number = 0
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative mean
            norm.train()
        with torch.no_grad():
            for batch in batches:
                model(batch) if forward is None else forward(model, batch)
                number += 1
        if not number:
            raise ValueError('recalibrate_statistics got no batch of images')
    except BaseException:
        for norm, buffers in zip(norms, before):
            for name, value in buffers.items():
                getattr(norm, name).copy_(value)
        raise
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training
    return number
