"""Trying a planned sub-network out: its channels have to be those that were planned."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch import Tensor, nn

from .errors import SlimmingError
from .labels import ANY, LABEL_TYPE, compress, to_numpy
from .narrowing import narrowed, possible_counts, unused_pieces
from .plan import ChannelPlan, Kept
from .trace import Step, Trace

# Of a tensor's channels that may go, without dimensions of one element: shape and labels of each factor.
Described = list[tuple[tuple[int, ...], bytes]]


@dataclass
class Failure:
    """Why a sub-network does not run: in which module, after how many operations."""

    module: str
    operations: int
    reason: str
    cause: Exception


def check_subnetwork(
    trial: nn.Module,
    arguments: tuple[Any, ...],
    forward: Callable[..., Any],
    plan: ChannelPlan,
    trace: Trace,
    number: int,
    kept: Kept,
    compare: bool = True,
) -> Optional[Failure]:
    """Trace a sub-network too, and compare: its channels have to be those that were planned.

    Its parameters carry the labels of the channels that are left. Whatever meets in an operation has to be
    tied in the plan already, and each result has to have just the channels that are left of the full
    network's. So ``x[:, :4]`` in a network whose first four channels are three is found, though shapes fit.
    """
    small = Trace()
    small.labels.classes = trace.labels.classes
    small.parameters = {
        name: [_left(plan, kept, factor) for factor in factors]
        for name, factors in trace.parameters.items()
    }
    comparison = _Comparison(plan, kept, trace.steps[number])
    trace.labels.classes.frozen, trace.labels.classes.strict = True, compare
    try:
        with narrowed(trial, plan, kept):
            small.run(trial, arguments, forward, None, comparison if compare else None)
            if unused := unused_pieces(trial):
                raise SlimmingError(
                    f'{unused[0] or type(trial).__name__!r} slices channels in a form that cannot be followed: write '
                    'x[:, a:b], x.narrow(dim, start, length) or x.split(sizes, dim)'
                )
        if small.outputs[0] != trace.outputs[number]:
            raise SlimmingError(f'it gives {small.outputs[0]} instead of {trace.outputs[number]}')
    except Exception as error:
        if small.watcher is None:  # not even entered
            raise
        name = small.watcher.running[-1][0]
        return Failure(name, small.watcher.operations, f'{type(error).__name__}: {error}', error)
    finally:
        trace.labels.classes.frozen = trace.labels.classes.strict = False
    return None


def _left(plan: ChannelPlan, kept: Kept, factor: Tensor) -> Tensor:
    """The labels of the channels that are left."""
    labels = plan.canonical(to_numpy(factor))
    mask = kept.mask(plan.selection(labels.reshape(-1))).reshape(labels.shape)
    for dim in range(mask.ndim):
        if mask.shape[dim] > 1:
            others = tuple(d for d in range(mask.ndim) if d != dim)
            chosen = np.flatnonzero(mask.any(axis=others))
            labels, mask = labels.take(chosen, dim), mask.take(chosen, dim)
    if not mask.all():
        raise SlimmingError('the channels that are left do not fill a tensor')
    return torch.from_numpy(labels).to(LABEL_TYPE)


class _Comparison:
    """Compares the operations of a sub-network with those of the full network, module by module.

    Only operations that run whatever the memory layout is; views and copies come and go with that.
    """

    def __init__(self, plan: ChannelPlan, kept: Kept, steps: Sequence[Step]) -> None:
        self.plan, self.kept = plan, kept
        self.steps: dict[str, list[Step]] = {}
        for step in steps:
            if step.kind:
                self.steps.setdefault(step.module, []).append(step)

    def __call__(self, found: Step) -> None:
        ours = self.described(found.factors)
        # Operations on channels that are all there leave no step in the sub-network.
        if not found.kind or not any(each != [] for each in ours):
            return
        expected = self.steps.get(found.module, [])
        for index, step in enumerate(expected):
            if step.kind != found.kind:
                continue
            theirs = self.described(
                [each and [_left(self.plan, self.kept, f) for f in each] for each in step.factors]
            )
            if not any(each != [] for each in theirs):
                continue
            del expected[: index + 1]
            for shape, mine, left in zip(found.shapes, ours, theirs):
                if mine is not None and left is not None and mine != left:
                    raise SlimmingError(
                        f'{step.operation} gives other channels (shape {shape}) than the first ones of each layer'
                    )
            return

    def described(self, results: Sequence[Optional[list[Tensor]]]) -> list[Optional[Described]]:
        """For comparing, of each result what its channels that may go are like, dimensions without them left out.

        None where padding took the place of channels, so that they are not known from here.
        """
        described: list[Optional[Described]] = []
        for factors in results:
            if any((factor == ANY).any() for factor in factors or ()):
                described.append(None)
                continue
            each = []
            for factor in factors or ():
                labels = self.plan.canonical(to_numpy(factor))
                labels = compress(torch.from_numpy(labels)).numpy().squeeze()
                if labels.size and (labels != labels.flat[0]).any():
                    each.append((labels.shape, labels.tobytes()))
            described.append(sorted(each))
        return described


def learn_a_count(
    trial: nn.Module,
    plan: ChannelPlan,
    kept: Kept,
    check: Callable[[], Optional[Failure]],
    failure: Failure,
) -> None:
    """Find attributes that have to shrink for a failing sub-network to get further.

    The layer that fails, or the one around it, may have attributes that count channels or heads
    (``num_heads``), and others that have the same value by accident (``sr_ratio``). So as few as possible are
    taken: the one with which the sub-network gets furthest, or, where one alone is not enough, all without
    those that it gets as far without.

    Raises:
        SlimmingError: there are none.
    """

    def reached(counts: set[Any]) -> int:
        before = set(plan.counts)
        plan.counts |= counts
        after = check()
        plan.counts = before
        return sys.maxsize if after is None else after.operations

    name: Optional[str] = failure.module
    places = []
    while name is not None:
        places.append([name])
        name = name.rpartition('.')[0] if name else None
    # Or the layer reads an attribute of one of its parts.
    inside = trial.get_submodule(failure.module).named_modules(prefix=failure.module)
    places.append([part for part, _ in inside])
    for names in places:
        possible = {
            (type(trial.get_submodule(each)), attribute)
            for each in names
            for attribute in possible_counts(plan, each, trial.get_submodule(each), kept)
        }
        open_counts = sorted(possible - plan.counts, key=lambda count: (count[1], str(count[0])))
        if open_counts:
            furthest, found = max(
                ((reached({count}), {count}) for count in open_counts), key=lambda each: each[0]
            )
            if furthest <= failure.operations and len(open_counts) > 1:
                found = set(open_counts)
                furthest = reached(found)
                for count in open_counts:
                    if reached(found - {count}) >= furthest:
                        found = found - {count}
            if furthest > failure.operations:
                plan.counts |= found
                return
    raise SlimmingError(
        f'{failure.module or type(trial).__name__!r} cannot be slimmed: {type(trial).__name__} runs at full '
        f'width, but its sub-network fails there with {failure.reason}'
    ) from failure.cause
