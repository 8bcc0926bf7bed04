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
_CHECKPOINTING = (
    'with_cp', 'use_checkpoint', 'use_checkpointing', 'gradient_checkpointing', 'grad_checkpointing',
    'memory_efficient',
)  # fmt: skip
# What the context sets and an extracted sub-network does not have.
_TEMPORARY = ('track_running_stats', 'forward', '__deepcopy__', '__reduce_ex__', 'state_dict')


class _Changes:
    """Entries of modules' dicts that are replaced, and can be put back and replaced again."""

    def __init__(self) -> None:
        self.entries: list[tuple[dict[str, Any], str, Any, Any]] = []
        # By module, what keeps its pieces of channels to the plan.
        self.pieces: dict[str, _PlannedPieces] = {}

    def set(self, owner: dict[str, Any], key: str, value: Any) -> None:
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
    there; they are added up layer by layer, as in plain training. Batch norms normalise by the batch in
    training and by the first entries of the running statistics in evaluation, and do not move them (paper,
    Section 3.1). Buffers are copies, so what the pass writes into them is forgotten.

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
    """Inside the context a pass does not move batch norms' running statistics or write into any buffer.

    Example:
        >>> import torch
        >>> from mmgradaug.slimming import buffers_kept
        >>> norm = torch.nn.BatchNorm1d(2)
        >>> with buffers_kept(norm):
        ...     out = norm(torch.ones(4, 2))
        >>> norm.running_mean
        tensor([0., 0.])
    """
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
        for name, buffer in module._buffers.items():
            if buffer is not None:
                changes.set(module._buffers, name, buffer.clone())


REPLACED = (
    'If layers were replaced, make the GradAug object or model anew, or outside of training plan again: '
    'plan_channels(model)'
)


def _narrow(model: nn.Module, plan: ChannelPlan, kept: Kept, changes: _Changes) -> None:
    modules: dict[str, nn.Module] = dict(model.named_modules())
    _keep_buffers(modules.values(), changes)
    for name, selections in plan.selections.items():
        owner, _, attribute = name.rpartition('.')
        module = modules.get(owner)
        tensors = module and (
            module._parameters if attribute in module._parameters else module._buffers
        )
        value = tensors.get(attribute) if tensors else None
        if not tensors or value is None:
            raise SlimmingError(
                f'{name!r} was there when the sub-networks were planned and is gone. {REPLACED}'
            )
        for dim, selection in selections:
            if value.shape[dim] != len(selection):
                raise SlimmingError(
                    f'{name!r} has shape {tuple(value.shape)} now, but {len(selection)} channels in '
                    f'dimension {dim} when the sub-networks were planned: is it inside the context of a '
                    f'sub-network of another model that shares it? {REPLACED}'
                )
        first = _first(value, selections, kept)
        if first is not value:
            changes.set(tensors, attribute, first)
            _go_backward_early(first, value)
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
            pieces = _PlannedPieces(splits.get(name, []), slices.get(name, []))
            changes.pieces[name] = pieces
            changes.set(own, 'forward', _with_pieces(module, pieces))
            for inside in list(module.modules())[1:]:
                changes.set(vars(inside), 'forward', _without_pieces(inside, pieces))
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
    """Whether a module is part of a sub-network at the moment.

    Example:
        >>> from torch import nn
        >>> from mmgradaug import subnetwork
        >>> from mmgradaug.slimming import is_narrowed
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> with subnetwork(model, 0.5):
        ...     print(is_narrowed(model[0]))
        True
        >>> is_narrowed(model[0])
        False
    """
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


class _PlannedPieces(TorchFunctionMode):
    """Pieces of channels have the planned sizes, where ``x.chunk(2)`` or ``x[:, :c // 2]`` would cut elsewhere.

    Args:
        splits: the module's calls that split; None for each that does not split channels.
        slices: its slices of channels.
    """

    def __init__(self, splits: list[Any], slices: list[Any]) -> None:
        super().__init__()
        self.splits, self.slices = splits, slices
        self.splits_done = self.slices_done = 0
        # Inside a submodule, whose calls are not this module's.
        self.suspended = 0

    @property
    def unused(self) -> bool:
        """Whether slices were planned that the module has not taken in a form that is known here."""
        done = self.slices_done
        return bool(self.slices) and (done == 0 or done % len(self.slices) != 0)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Optional[dict[str, Any]] = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.suspended:
            return function(*args, **kwargs)
        if self.splits and getattr(function, '__name__', '') in SPLITS:
            planned = self.splits[self.splits_done % len(self.splits)]
            self.splits_done += 1
            if planned is not None and args[0].shape[planned[0]] == sum(planned[1]):
                dim, sizes = planned
                return torch.split_with_sizes(args[0], sizes, dim)
        if self.slices and function in _SLICES and isinstance(args[0], Tensor):
            x, planned = args[0], self.slices[self.slices_done % len(self.slices)]
            dim, size, start, end = planned
            if function in (Tensor.narrow, torch.narrow):
                given = dict(zip(('input', 'dim', 'start', 'length'), args), **kwargs)
                if given['dim'] % x.dim() == dim and x.shape[dim] == size:
                    self.slices_done += 1
                    return x.narrow(dim, start, end - start)
            else:
                index = _slice_replaced(x, args[1], dim, size, slice(start, end))
                if index is not None:
                    self.slices_done += 1
                    return function(x, index, *args[2:])
        return function(*args, **kwargs)


_SLICES = (Tensor.__getitem__, Tensor.__setitem__, Tensor.narrow, torch.narrow)


def _slice_replaced(
    tensor: Tensor, index: Any, dim: int, size: int, by: slice
) -> Optional[tuple[Any, ...]]:
    """An index with another slice of channels; None if it does not slice ``size`` channels in that dimension.

    ``dim`` counts as PyTorch does when it comes to that slice: without dimensions of which one entry was taken
    before, with new ones.
    """
    index = list(index) if isinstance(index, tuple) else [index]
    for each in index:
        plain = each is None or each is Ellipsis or isinstance(each, (slice, int))
        if not plain or isinstance(each, bool):
            return None
    if Ellipsis in index:
        place = index.index(Ellipsis)
        taken = sum(each is not None for each in index) - 1
        index[place : place + 1] = [slice(None)] * (tensor.dim() - taken)
    now = in_tensor = 0
    for place, each in enumerate(index):
        if isinstance(each, slice) and now == dim:
            fits = tensor.shape[in_tensor] == size and each != slice(None)
            if not fits or each.step not in (None, 1):
                return None
            index[place] = by
            return tuple(index)
        now += not isinstance(each, int)
        in_tensor += each is not None
    return None


def _with_pieces(module: nn.Module, pieces: _PlannedPieces) -> Callable[..., Any]:
    forward = module.forward

    def with_planned_pieces(*args: Any, **kwargs: Any) -> Any:
        with pieces:
            try:
                return forward(*args, **kwargs)
            except BaseException:
                pieces.splits_done = pieces.slices_done = 0  # the next pass begins anew
                raise

    return with_planned_pieces


def _without_pieces(module: nn.Module, pieces: _PlannedPieces) -> Callable[..., Any]:
    forward = module.forward

    def without_planned_pieces(*args: Any, **kwargs: Any) -> Any:
        pieces.suspended += 1
        try:
            return forward(*args, **kwargs)
        finally:
            pieces.suspended -= 1

    return without_planned_pieces


def unused_pieces(model: nn.Module) -> list[str]:
    """Names of modules that slice channels in a form that is not known, inside a sub-network's context."""
    return [name for name, pieces in _ACTIVE[model][-1].pieces.items() if pieces.unused]


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


def _go_backward_early(first: Tensor, value: Tensor) -> None:
    """Give a narrow parameter's gradient on as soon as it is there.

    Of the steps of a backward pass that are ready, autograd takes the one that was made last. What is made before
    the forward pass would come last of all, and hold the gradients of all layers to the end.
    """
    node = first.grad_fn
    while node is not None and node is not value.grad_fn and node.next_functions:
        node._set_sequence_nr(2**63 - 1)  # type: ignore[attr-defined]
        node = node.next_functions[0][0]


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
