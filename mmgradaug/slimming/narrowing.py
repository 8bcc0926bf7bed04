"""A network whose parameters are views of their first channels, for a while."""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from .errors import SlimmingError
from .plan import ChannelPlan, Kept, Selection
from .rules import any_layer, find_layer_rule
from .trace import SPLITS

# What is changed in a model at the moment, the innermost context last.
_ACTIVE: 'weakref.WeakKeyDictionary[nn.Module, list[_Changes]]' = weakref.WeakKeyDictionary()
_NEW = object()
# These leave running statistics alone if told so; a batch norm of another's making may not.
_KNOWN_FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)
_CHECKPOINTING = (
    'with_cp', 'use_checkpoint', 'use_checkpointing', 'gradient_checkpointing', 'grad_checkpointing',
    'memory_efficient',
)  # fmt: skip
# What the context sets and an extracted sub-network does not have.
_TEMPORARY = ('track_running_stats', 'forward', '__deepcopy__', '__reduce_ex__', 'state_dict')


class _Changes:
    """Entries of modules' dicts that are replaced, and can be put back and replaced again."""

    def __init__(self) -> None:
        self.entries: list[tuple[dict, str, Any, Any]] = []

    def set(self, owner: dict, key: str, value: Any) -> None:
        self.entries.append((owner, key, owner.get(key, _NEW), value))
        owner[key] = value

    def undo(self) -> None:
        for owner, key, before, _ in reversed(self.entries):
            if before is _NEW:
                del owner[key]
            else:
                owner[key] = before

    def redo(self) -> None:
        for owner, key, _, value in self.entries:
            owner[key] = value


@contextmanager
def narrowed(model: nn.Module, plan: ChannelPlan, kept: Kept) -> Iterator[nn.Module]:
    """Inside the context each run of channels has as many as ``kept`` says; on exit all is as before.

    Parameters are views of the full ones, so gradients reach these, and are zero where a channel is not
    there. Batch norms normalise by the batch in training and by the first entries of the running
    statistics in evaluation, and do not move them (paper, Section 3.1). Other buffers are copies, so
    what the pass counts in them is forgotten.

    Raises:
        SlimmingError: the model's layers are not those that were planned.
    """
    active = _ACTIVE.setdefault(model, [])
    # Another sub-network of the model, around this one, gives way: the inner width counts.
    outer = active[-1] if active else _Changes()
    outer.undo()
    changes = _Changes()
    try:
        # With gradients, also where the context is entered without: backward may come later.
        with torch.enable_grad():
            _narrow(model, plan, kept, changes)
        active.append(changes)
        try:
            yield model
        finally:
            if active[-1] is not changes:
                raise SlimmingError(
                    'contexts of sub-networks of one model have to be left in reverse order'
                )
            active.pop()
    finally:
        changes.undo()
        outer.redo()


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Inside the context a pass does not move batch norms' running statistics or write into any buffer."""
    changes = _Changes()
    try:
        _keep_buffers(model.modules(), changes)
        yield
    finally:
        changes.undo()


def _keep_buffers(modules: Iterable[nn.Module], changes: _Changes) -> None:
    for module in modules:
        if isinstance(module, _BatchNorm):
            changes.set(vars(module), 'track_running_stats', False)
            if type(module).forward in _KNOWN_FORWARDS:
                continue
        for name, buffer in module._buffers.items():
            if buffer is not None:
                changes.set(module._buffers, name, buffer.clone())


def _narrow(model: nn.Module, plan: ChannelPlan, kept: Kept, changes: _Changes) -> None:
    modules = dict(model.named_modules())
    _keep_buffers(modules.values(), changes)
    for name, selections in plan.selections.items():
        owner, _, attribute = name.rpartition('.')
        module = modules.get(owner)
        tensors = module and (
            module._parameters if attribute in module._parameters else module._buffers
        )
        if not tensors or tensors.get(attribute) is None:
            raise SlimmingError(
                f'{name!r} was there when the sub-networks were planned and is gone'
            )
        value = tensors[attribute]
        for dim, selection in selections:
            if value.shape[dim] != len(selection):
                raise SlimmingError(
                    f'{name!r} has shape {tuple(value.shape)} now, but {len(selection)} channels in '
                    f'dimension {dim} when the sub-networks were planned: is it inside the context of a '
                    'sub-network of another model that shares it? If layers were replaced, plan again'
                )
        first = _first(value, selections, kept)
        if first is not value:
            changes.set(tensors, attribute, first)
    splits, slices = plan.splits(kept, model.training), plan.slices(kept, model.training)
    _refuse_checkpointing(modules, [*splits, *slices])
    for name in plan.modules:
        module = modules.get(name)
        if module is None:
            continue
        own = vars(module)
        rule = find_layer_rule(module)
        for attribute, value in rule(module, _View(plan, name, module, kept)).items():
            counts = rule is not any_layer or (type(module), attribute) in plan.counts
            if counts and attribute in own and own[attribute] != value:
                changes.set(own, attribute, value)
        if name in splits or name in slices:
            pieces = splits.get(name, []), slices.get(name, [])
            changes.set(own, 'forward', _split_as_planned(module, *pieces))
        for method in ('__deepcopy__', '__reduce_ex__', 'state_dict'):
            changes.set(own, method, _refuse_copies)


def narrowed_attributes(model: nn.Module) -> dict[str, dict[str, Any]]:
    """By module, the attributes that count something else inside the context; for extraction."""
    names = {id(vars(module)): name for name, module in model.named_modules()}
    values: dict[str, dict[str, Any]] = {}
    for owner, key, _, value in _ACTIVE[model][-1].entries:
        if id(owner) in names and key not in _TEMPORARY:
            values.setdefault(names[id(owner)], {})[key] = value
    return values


def is_narrowed(module: nn.Module) -> bool:
    """Whether a module is part of a sub-network at the moment."""
    return '__deepcopy__' in vars(module)


def _refuse_checkpointing(modules: dict[str, nn.Module], planned: Iterable[str]) -> None:
    """Computing layers again during the backward pass would split channels without the plan."""
    for planned_name in planned:
        name: Optional[str] = planned_name
        while name is not None:
            module = modules.get(name)
            on = [flag for flag in _CHECKPOINTING if getattr(module, flag, False) is True]
            if on:
                raise SlimmingError(
                    f'{planned_name or "the model"!r} splits channels into planned pieces, which activation '
                    f'checkpointing ({on[0]}) would compute again without the plan: write {on[0]}=False'
                )
            name = name.rpartition('.')[0] if name else None


class _SplitSizes(TorchFunctionMode):
    """Pieces of channels have the planned sizes, where ``x.chunk(2)`` or ``x[:, :c // 2]`` would cut elsewhere."""

    def __init__(self, calls: list[Any], slices: list[Any]) -> None:
        super().__init__()
        self.calls, self.slices = iter(calls), list(slices)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Optional[dict] = None
    ) -> Any:
        if getattr(function, '__name__', '') in SPLITS:
            planned = next(self.calls, None)
            if planned is not None and args[0].shape[planned[0]] == sum(planned[1]):
                dim, sizes = planned
                return torch.split_with_sizes(args[0], sizes, dim)
        if function is Tensor.__getitem__ and self.slices:
            dim, size, start, end = self.slices[0]
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            plain = all(isinstance(each, slice) for each in index[: dim + 1])
            fits = plain and len(index) > dim and index[dim] != slice(None)
            if fits and args[0].dim() > dim and args[0].shape[dim] == size:
                del self.slices[0]
                index = (*index[:dim], slice(start, end), *index[dim + 1 :])
                return function(args[0], index)
        return function(*args, **(kwargs or {}))


def _split_as_planned(module: nn.Module, calls: list[Any], slices: list[Any]) -> Callable[..., Any]:
    forward = module.forward

    def split_as_planned(*args: Any, **kwargs: Any) -> Any:
        with _SplitSizes(calls, slices):
            return forward(*args, **kwargs)

    return split_as_planned


def _first(value: Tensor, selections: list[tuple[int, Selection]], kept: Kept) -> Tensor:
    shape = list(value.shape)
    for dim, selection in selections:
        shape[dim], indices = kept.count(selection), kept.indices(selection)
        if indices is not None:
            value = value.index_select(dim, torch.from_numpy(indices).to(value.device))
    if shape == list(value.shape):
        return value
    # One view for all dimensions, so that the backward pass fills one full gradient, not one for each of them.
    return value.as_strided(shape, value.stride())


def possible_counts(plan: ChannelPlan, name: str, module: nn.Module, kept: Kept) -> list[str]:
    """Attributes of a layer without a rule of its own that may count channels, by their values."""
    if find_layer_rule(module) is not any_layer:
        return []
    return list(any_layer(module, _View(plan, name, module, kept)))


class _View:
    """What a layer's rule may ask; see :class:`~mmgradaug.slimming.rules.Narrowed`."""

    def __init__(self, plan: ChannelPlan, name: str, module: nn.Module, kept: Kept) -> None:
        self.plan, self.name, self.module, self.kept = plan, name, module, kept

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(getattr(self.module, name).shape)

    def size(self, number: int) -> int:
        options = self.plan.sizes(self.name, number, self.kept)
        return options[0] if options else number


def _refuse_copies(*args: Any, **kwargs: Any) -> Any:
    raise SlimmingError(
        'a model cannot be copied, pickled or saved while it is one of its sub-networks: leave the '
        'context of subnetwork() first. extract_subnetwork(model, width) gives a sub-network as a model '
        'of its own'
    )
