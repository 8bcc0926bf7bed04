"""One forward pass of a network, watched: which channels each tensor has, operation by operation."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .errors import SlimmingError
from .labels import ALWAYS, ANY, Labels, Shadow, to_numpy, varying
from .operations import Call, find_rule, import_rules
from .residual import Route, follow_addition

SPLITS = ('split', 'split_with_sizes', 'unsafe_split', 'chunk', 'unsafe_chunk', 'tensor_split')
import_rules()
Forward = Callable[..., Any]


# Operations that come and go with the memory layout, and those that a size of 1 makes superfluous.
LAYOUT = {
    'view', '_unsafe_view', 'reshape', '_reshape_alias', 'clone', 'contiguous', 'expand', 'permute', 'transpose',
    't', 'unsqueeze', 'squeeze', 'alias', 'detach', '_to_copy', 'as_strided', 'as_strided_', 'copy_',
    'constant_pad_nd', 'unbind', 'add', 'add_', 'mul', 'mul_',
}  # fmt: skip


def kind_of(operation: str) -> str:
    """Of an operation that runs whatever the memory layout is; '' for others."""
    name = operation.split('.')[1]
    if name in ('mm', 'bmm', 'addmm', 'baddbmm'):
        return 'product'
    if name in SPLITS:
        return 'split'
    return '' if name in LAYOUT else name


@dataclass
class Step:
    """An operation of the traced pass, and what its results look like.

    Args:
        operation: its name.
        module: the name of the innermost module that ran it.
        shapes: of the results.
        factors: of each result; None for one that nobody uses.
        numbers: whole numbers among its arguments, such as the sizes that a view asks for.
    """

    operation: str
    module: str
    shapes: list[tuple[int, ...]]
    factors: Sequence[Optional[list[Tensor]]]
    numbers: tuple[int, ...]

    @property
    def kind(self) -> str:
        return kind_of(self.operation)


class Trace:
    """What traced passes say of a network; several add up (training and evaluation mode).

    ``parameters``: by name, the labels along each dimension of a parameter or buffer. ``sizes``: by module
    and number, what numbers of channels were seen there. ``blocks``: by module, its residual
    :class:`~mmgradaug.slimming.residual.Route`, or None where it is none.
    """

    def __init__(self) -> None:
        self.labels = Labels()
        self.parameters: dict[str, list[Tensor]] = {}
        self.producers: list[np.ndarray] = []
        self.links: list[tuple[np.ndarray, np.ndarray]] = []
        self.sizes: dict[str, dict[int, dict[bytes, np.ndarray]]] = {}
        self.blocks: dict[str, Optional[Route]] = {}
        self.steps: list[list[Step]] = []
        self.watcher: Optional[_Watcher] = None
        # The shapes of what came out, by pass.
        self.outputs: list[list[tuple[int, ...]]] = []
        # By pass and module, for each slice of channels: the dimension, and the labels of what is sliced,
        # before the slice and in it.
        self.slices: list[dict[str, list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]]] = []
        # By pass and module, for each call that splits a tensor: the dimension and the pieces' labels along
        # it, or None where these are no channels.
        self.splits: list[dict[str, list[Optional[tuple[int, list[np.ndarray]]]]]] = []

    def run(
        self,
        model: nn.Module,
        arguments: Sequence[Any],
        forward: Forward,
        within: Optional[Sequence[str]] = None,
        compare: Optional[Callable[[Step], None]] = None,
    ) -> None:
        """Trace one pass.

        Args:
            model: on whatever device; its batch norms should not count.
            arguments: of ``forward(model, *arguments)``.
            compare: called after each operation that meets channels; may raise SlimmingError.
            within: names of the modules whose channels may be narrowed; None for all. What other modules
                give keeps its channels.

        Raises:
            SlimmingError: an operation is not known; the message names it and the layer.
        """
        self.splits.append({})
        self.slices.append({})
        watcher = self.watcher = _Watcher(self, model, within, compare)
        with watcher.modules_watched(model), torch.no_grad(), watcher:
            outputs = forward(model, *arguments)
        self.steps.append(watcher.steps)
        seen = tensors_in(outputs)
        if not seen:
            raise SlimmingError(
                f'{type(model).__name__} gives a {type(outputs).__name__} in which no tensor is found, so it is '
                'not known which channels are its outputs: return tensors, or lists, tuples and dicts of them'
            )
        self.outputs.append([tuple(tensor.shape) for tensor in seen])
        for tensor in seen:
            for factor in watcher.shadow_of(tensor).factors:
                self.labels.always(factor)


class _Watcher(TorchDispatchMode):
    def __init__(
        self,
        trace: Trace,
        model: nn.Module,
        within: Optional[Sequence[str]],
        compare: Optional[Callable[[Step], None]],
    ) -> None:
        super().__init__()
        self.compare, self.operations = compare, 0
        self.trace, self.labels, self.within = trace, trace.labels, within
        self.steps: list[Step] = []
        self.running: list[tuple[str, int]] = [('', 0)]
        self.calls = 0
        self.written: dict[int, set[int]] = {}
        self.shadows: dict[int, tuple[Tensor, Shadow]] = {}
        named = [
            (f'{owner}.{key}' if owner else key, value)
            for owner, module in model.named_modules()
            for key, value in (*module._parameters.items(), *module._buffers.items())
            if value is not None
        ]
        for name, value in named:
            if id(value) in self.shadows:  # one parameter under two names
                trace.parameters[name] = self.shadows[id(value)][1].factors
            elif name not in trace.parameters:
                trace.parameters[name] = self.labels.new_factors(value.shape)
            self.remember(value, Shadow(list(trace.parameters[name]), of_parameters=True))

    def shadow_of(self, tensor: Tensor) -> Shadow:
        known = self.shadows.get(id(tensor))
        return known[1] if known else Shadow()

    def remember(self, tensor: Tensor, shadow: Shadow) -> None:
        # The tensor too, so that its id is not given to another.
        self.shadows[id(tensor)] = (tensor, shadow)

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Optional[dict[str, Any]] = None
    ) -> Any:
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        self.operations += 1
        results = tensors_in(result)
        tensors = tensors_in((args, kwargs))
        if not results:
            return result
        shadows = [self.shadow_of(t) for t in tensors]
        self.check_written(operation, tensors, results)
        of_parameters = any(s.of_parameters for s in shadows) and all(
            s.of_parameters or s.adapts for s in shadows
        )
        name = operation.overloadpacket.__name__
        # What was expanded from size 1 has the size of its surroundings; products "expand" to the same size too.
        expanded = name == 'expand' and tensors[0].shape != results[0].shape
        if name in SPLITS:
            self.trace.splits[-1].setdefault(self.running[-1][0], []).append(None)
        if not tensors or name.endswith('_like') or name.startswith('new_') or name == 'empty':
            for each in results:
                self.remember(each, Shadow(adapts=True))
            return result
        if not any(s.factors for s in shadows):
            for each in results:
                adapts = expanded or all(s.adapts for s in shadows)
                self.remember(each, Shadow(adapts=adapts, of_parameters=of_parameters))
            self.follow(name, shadows, results, kwargs)
            return result
        call = Call(
            operation, args, kwargs, tensors, shadows, [tuple(t.shape) for t in tensors], results,
            self.shadow_of, self.note_size, self.note_outputs, self.note_link, self.note_slice,
        )  # fmt: skip
        rule = find_rule(operation)
        if rule is None:
            raise self.refusal(operation, 'no rule says what it does to channels')
        try:
            factors = rule(self.labels, call)
        except SlimmingError as error:
            raise self.refusal(operation, str(error)) from error
        for each, own in zip(results, factors):
            own = [self.labels.canonical(factor) for factor in own or ()]
            known = [factor for factor in own if not bool((factor == ANY).all())]
            self.note_written_view(each, known)
            adapts = len(known) < len(own) or expanded
            self.remember(each, Shadow(known, adapts, of_parameters))
            own = known
            self.note_sizes(each, own)
        for each, shadow in zip(tensors, shadows):
            self.note_sizes(each, shadow.factors)
        if name in SPLITS:
            dim = call.argument(2, 'dim', 0) % tensors[0].dim()
            if any(dim in varying(f) for f in shadows[0].factors):
                sizes = [each.shape[dim] for each in results]
                labels = [along(own or (), dim, size) for own, size in zip(factors, sizes)]
                self.trace.splits[-1][self.running[-1][0]][-1] = (dim, labels)
        shapes = [tuple(each.shape) for each in results]
        # As they are now: in-place operations change tensors, not these.
        numbers = tuple(each for each in tree_leaves((args, kwargs)) if type(each) is int)
        self.steps.append(Step(str(operation), self.running[-1][0], shapes, factors, numbers))
        if self.compare is not None:
            self.compare(self.steps[-1])
        self.follow(name, shadows, results, kwargs)
        return result

    def refusal(self, operation: Any, reason: str) -> SlimmingError:
        return SlimmingError(
            f'{self.running[-1][0] or "the model"!r} has no sub-networks that are known of: its operation {operation} '
            f'breaks the trace of channels, since {reason}'
        )

    def note_written_view(self, result: Tensor, factors: list[Tensor]) -> None:
        """After channels were written into a view, what the tensor behind it holds is not known."""
        known = self.shadows.get(id(result))
        if known is None or not result._is_view() or known[0] is not result:
            return
        before = sorted(to_numpy(self.labels.canonical(f)).tobytes() for f in known[1].factors)
        if before != sorted(to_numpy(f).tobytes() for f in factors):
            self.written.setdefault(id(result._base), set()).add(id(result))

    def check_written(self, operation: Any, tensors: Sequence[Tensor], results: Any) -> None:
        if not self.written:
            return
        for tensor in tensors:
            base = tensor._base if tensor._is_view() else tensor
            views = self.written.get(id(base))
            if views is None:
                continue
            if id(tensor) not in views:
                raise self.refusal(operation, 'channels were written into a part of its input')
            views.update(id(each) for each in results if each._is_view() and each._base is base)

    # --- what rules note down --------------------------------------------------------------------

    def inside(self) -> bool:
        name = self.running[-1][0]
        return self.within is None or any(
            name == each or name.startswith(f'{each}.') for each in self.within
        )

    def note_outputs(self, factor: Tensor) -> None:
        if self.inside():
            self.trace.producers.append(to_numpy(factor).reshape(-1))
        else:
            self.labels.always(factor)

    def note_link(self, ins: Tensor, outs: Tensor) -> None:
        self.trace.links.append((to_numpy(ins), to_numpy(outs)))

    def note_size(self, size: int, labels: np.ndarray) -> None:
        sizes = self.trace.sizes.setdefault(self.running[-1][0], {})
        sizes.setdefault(size, {})[labels.tobytes()] = labels

    def note_slice(self, dim: int, whole: np.ndarray, start: int, end: int) -> None:
        calls = self.trace.slices[-1].setdefault(self.running[-1][0], [])
        calls.append((dim, whole, whole[:start], whole[start:end]))

    def note_sizes(self, tensor: Tensor, factors: Sequence[Tensor]) -> None:
        for factor in factors:
            for dim in varying(factor):
                size = tensor.shape[dim]
                self.note_size(size, along([factor], dim, size))

    # --- modules, and how their inputs reach their outputs ---------------------------------------

    def follow(
        self,
        name: str,
        shadows: Sequence[Shadow],
        results: Sequence[Tensor],
        kwargs: dict[str, Any],
    ) -> None:
        active = [call for _, call in self.running]
        inputs = [shadow.carries for shadow in shadows]
        carries = follow_addition(name, inputs, active, kwargs.get('alpha', 1))
        self.shadow_of(results[0]).carries = carries

    @contextmanager
    def modules_watched(self, model: nn.Module) -> Iterator[None]:
        hooks = []
        for name, module in model.named_modules():
            if module is model:
                continue
            hooks.append(module.register_forward_pre_hook(self.entering(name), with_kwargs=True))
            hooks.append(module.register_forward_hook(self.leaving(name), with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.calls += 1
            self.running.append((name, self.calls))
            inputs: list[tuple[Union[int, str], Any]] = [*enumerate(args), *kwargs.items()]
            for key, value in inputs:
                if isinstance(value, Tensor):
                    if id(value) not in self.shadows:
                        self.remember(value, Shadow())
                    self.shadow_of(value).carries[self.calls] = Route(argument=key)

        return hook

    def leaving(self, name: str) -> Callable[..., None]:
        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
        ) -> None:
            for tensor in tensors_in((args, output)):
                self.note_sizes(tensor, self.shadow_of(tensor).factors)
            call = self.running.pop()[1]
            route = None
            if isinstance(output, Tensor):
                shadow = self.shadow_of(output)
                route = shadow.carries.pop(call, None)
                self._carry_through(name, args, shadow)
            known = self.trace.blocks.get(name, route)
            # A submodule that does something in training alone may hand on its input itself in evaluation.
            same = known == route or (known and replace(known, through=None) == route)
            self.trace.blocks[name] = known if same else None

        return hook

    def _carry_through(self, name: str, args: tuple[Any, ...], output: Shadow) -> None:
        """What a child module gives carries its parent's input, if it took that as it came."""
        if not args or not isinstance(args[0], Tensor):
            return
        parent, call = self.running[-1]
        route = self.shadow_of(args[0]).carries.get(call)
        if route is not None and route.direct and call not in output.carries:
            child = name[len(parent) + 1 :] if name.startswith(f'{parent}.') else name
            output.carries[call] = Route(argument=route.argument, through=child)


def along(factors: Sequence[Tensor], dim: int, size: int) -> np.ndarray:
    """The labels of a tensor along one of its dimensions."""
    factor = next((f for f in factors if dim in varying(f)), None)
    if factor is None:
        return np.full(size, ALWAYS)
    at = tuple(slice(None) if other == dim else 0 for other in range(factor.dim()))
    return factor.numpy()[at].astype(np.int64)


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in nested lists, tuples, mappings and objects with attributes of tensors."""
    if isinstance(value, Tensor):
        return [value]
    if value is None or isinstance(value, (bool, int, float, str, type, nn.Module)):
        return []
    if isinstance(value, Mapping):
        inside = list(value.values())
    elif isinstance(value, (list, tuple, set, deque)):
        inside = list(value)
    else:
        inside = list(vars(value).values()) if hasattr(value, '__dict__') else []
        slots = getattr(type(value), '__slots__', ())
        slots = (slots,) if isinstance(slots, str) else slots
        inside += [getattr(value, slot, None) for slot in slots]
    return [tensor for each in inside for tensor in tensors_in(each)]
