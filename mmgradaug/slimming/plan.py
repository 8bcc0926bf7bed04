"""Which channels of a network exist at a width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

import numpy as np
from torch import nn

from .labels import ALWAYS, to_numpy
from .residual import Route
from .trace import Trace


def kept_channels(channels: int, width: float, divisor: int = 1) -> int:
    """How many of ``channels`` a sub-network of ``width`` in (0, 1] keeps: round half up, at least 1.

    The authors' code does the same (``make_divisible`` with divisor 1), except in the stem and in the
    middle of ResNet's bottleneck, where it truncates and may keep one channel fewer.

    Example:
        >>> from mmgradaug.slimming import kept_channels
        >>> kept_channels(64, 0.9), kept_channels(64, 0.9, divisor=8), kept_channels(64, 0.001)
        (58, 56, 1)

    Args:
        channels: >= 1.
        width: in (0, 1].
        divisor: >= 1; rounds to multiples of it, at least one and at most ``channels``.
    """
    multiples = max(1, math.floor(channels * width / divisor + 0.5))
    return channels if width == 1.0 else min(channels, divisor * multiples)


@dataclass(frozen=True, eq=False)
class Selection:
    """Which elements of a dimension a sub-network keeps.

    Args:
        run: for each element, the number of its run of channels; -1 for one that is always there.
        rank: for each element, its place in the run.
        repeats: if the elements are all channels of one run in order, each this many times; otherwise 0.
    """

    run: np.ndarray
    rank: np.ndarray
    repeats: int

    def __len__(self) -> int:
        return len(self.run)


class Kept:
    """How many channels of each run a sub-network keeps, and what follows from that.

    Args:
        numbers: of channels, by run.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = list(numbers)
        self._padded = np.array([*self.numbers, 0])
        self._chosen: dict[Selection, tuple[int, Optional[np.ndarray]]] = {}

    def count(self, selection: Selection) -> int:
        """How many elements are kept."""
        return self._choose(selection)[0]

    def indices(self, selection: Selection) -> Optional[np.ndarray]:
        """Which elements are kept; None if they are the first ones."""
        return self._choose(selection)[1]

    def mask(self, selection: Selection) -> np.ndarray:
        return (selection.rank < self._padded[selection.run]) | (selection.run < 0)

    def _choose(self, selection: Selection) -> tuple[int, Optional[np.ndarray]]:
        if selection not in self._chosen:
            if selection.repeats:
                number = self.numbers[selection.run[0]] * selection.repeats
                self._chosen[selection] = number, None
            else:
                mask = self.mask(selection)
                number = int(np.count_nonzero(mask))
                first = bool(mask[:number].all())
                self._chosen[selection] = number, None if first else np.flatnonzero(mask)
        return self._chosen[selection]


class ChannelPlan:
    """For every parameter, buffer and attribute of a network, which channels exist at width w.

    Channels form *runs*: those that the same layers produce and the same operations tie together. Of each
    run of C channels (of heads of an attention, or groups of a grouped convolution, which exist as wholes)
    a sub-network keeps the first ``kept_channels(C, w)``. Layers that are added to each other have the
    same runs and round alike; a concatenation has the runs of its parts. The network's outputs belong to
    no run.

    Made by :func:`~mmgradaug.slimming.plan_channels`.

    Example:
        >>> from torch import nn
        >>> from mmgradaug import plan_channels
        >>> plan = plan_channels(nn.Sequential(nn.Linear(8, 10), nn.Linear(10, 12), nn.Linear(12, 3)))
        >>> plan.runs
        [10, 12]
        >>> plan.kept(0.77).numbers, round(plan.used_width(0.77), 3)
        ([8, 9], 0.773)

    Attributes:
        runs: the number of channels of each run.
        blocks: residual blocks that a sub-network may leave out, by module name; see
            :mod:`~mmgradaug.slimming.depth`.
    """

    def __init__(self, trace: Trace, blocks: dict[str, Route]) -> None:
        self.blocks = blocks
        # What was run to make the plan.
        self.example: tuple[Any, ...] = ()
        self.forward: Callable[..., Any] = nn.Module.__call__
        self._trace = trace
        while _tie_embeddings_to_heads(trace) or trace.labels.straighten():
            pass
        self.runs, self._run_of, self._rank_of = _find_runs(trace)
        # Channels of no run are there at any width, as an output's are.
        classes = trace.labels.classes
        roots = np.unique(classes.find(np.arange(len(classes))))
        classes.union(roots[self._run_of[roots] < 0], np.int64(ALWAYS))
        self._known: dict[bytes, Selection] = {}
        self.selections: dict[str, list[tuple[int, Selection]]] = {}
        for name, factors in trace.parameters.items():
            found = []
            for factor in factors:
                dim = max(d for d, size in enumerate(factor.shape) if size > 1)
                selection = self.select(to_numpy(factor).reshape(-1))
                if selection is not None:
                    found.append((dim, selection))
            if found:
                self.selections[name] = found
        # In training and in evaluation mode.
        self._splits = [self._splits_of_channels(each) for each in trace.splits]
        self._slices = [
            {
                module: [
                    (dim, self.selection(whole), self.selection(before), self.selection(part))
                    for dim, whole, before, part in calls
                ]
                for module, calls in each.items()
            }
            for each in trace.slices
        ]
        # Attributes of layers without a rule of their own that count channels: (class, name).
        self.counts: set[tuple[type[nn.Module], str]] = set()
        outputs = {labels.tobytes(): self.select(labels) for labels in trace.producers}
        self._outputs = {key: each for key, each in outputs.items() if each is not None}
        # Channels of one element of a run: of a head or group, otherwise 1.
        self._unit = [min(units) if units else 1 for units in self._units()]
        self._sizes: dict[str, dict[int, list[Selection]]] = {}
        for module, sizes in trace.sizes.items():
            for size, vectors in sizes.items():
                # Parts that turned out to exist together (query, key and value) are no channels.
                options = dict.fromkeys(
                    selection
                    for labels in vectors.values()
                    if len(np.unique(trace.labels.classes.find(labels))) > 1
                    and (selection := self.select(labels)) is not None
                )
                if options:
                    self._sizes.setdefault(module, {})[size] = list(options)

    def _splits_of_channels(
        self, traced: dict[str, list[Optional[tuple[int, list[np.ndarray]]]]]
    ) -> dict[str, list[Optional[tuple[int, list[Selection]]]]]:
        """By module, the calls that split channels, into pieces whose sizes the code cannot know."""
        found: dict[str, list[Optional[tuple[int, list[Selection]]]]] = {}
        for module, calls in traced.items():
            entries = [
                None if call is None else (call[0], [self.selection(labels) for labels in call[1]])
                for call in calls
            ]
            if any(entry and any((p.run >= 0).any() for p in entry[1]) for entry in entries):
                found[module] = entries
        return found

    def splits(
        self, kept: Kept, training: bool
    ) -> dict[str, list[Optional[tuple[int, list[int]]]]]:
        """By module, for each call that splits channels, the dimension and the sizes of its pieces."""
        return {
            module: [
                entry and (entry[0], [kept.count(piece) for piece in entry[1]]) for entry in entries
            ]
            for module, entries in self._splits[not training].items()
        }

    def slices(self, kept: Kept, training: bool) -> dict[str, list[tuple[int, int, int, int]]]:
        """By module, for each slice of channels: dimension, size of what is sliced, start and end."""
        found = {}
        for module, calls in self._slices[not training].items():
            if any((each.run >= 0).any() for _, *parts in calls for each in parts):
                found[module] = [
                    (dim, kept.count(whole), start := kept.count(before), start + kept.count(part))
                    for dim, whole, before, part in calls
                ]
        return found

    def canonical(self, labels: np.ndarray) -> np.ndarray:
        """The label that represents each label's class."""
        return self._trace.labels.classes.find(labels)

    def select(self, labels: np.ndarray) -> Optional[Selection]:
        """The selection of elements with these labels; None where all are kept at any width."""
        selection = self.selection(labels)
        return selection if (selection.run >= 0).any() else None

    def selection(self, labels: np.ndarray) -> Selection:
        roots = self._trace.labels.classes.find(labels)
        roots = np.where(roots < 0, ALWAYS, roots)
        key = roots.tobytes()
        if key not in self._known:
            run, rank = self._run_of[roots], self._rank_of[roots]
            repeats = 0
            if len(run) and run[0] >= 0 and (run == run[0]).all():
                each = len(rank) // self.runs[run[0]]
                ordered = np.repeat(np.arange(self.runs[run[0]]), each)
                repeats = int(each) if np.array_equal(rank, ordered) else 0
            self._known[key] = Selection(run, rank, repeats)
        return self._known[key]

    def forget_trace(self) -> None:
        """Free what only making the plan needed, so that copies of a model are cheap."""
        labels = self._trace.labels
        self._trace = Trace()
        self._trace.labels.classes = labels.classes

    @property
    def has_parts(self) -> bool:
        """Whether there are dimensions of several runs, or of heads or groups of channels."""
        selections = [s for each in self.selections.values() for _, s in each]
        return any(selection.repeats != 1 for selection in selections)

    @property
    def modules(self) -> dict[str, None]:
        """Names of the modules whose parameters or numbers change, in order."""
        owners = dict.fromkeys(name.rpartition('.')[0] for name in self.selections)
        return {**owners, **dict.fromkeys(self._sizes)}

    def kept(self, width: float, divisor: int = 1) -> Kept:
        """What a sub-network of ``width`` keeps.

        Args:
            width: in (0, 1].
            divisor: channels are rounded to multiples of it; heads and groups to as many as that takes.
        """
        return Kept(
            [
                kept_channels(size, width, divisor // math.gcd(divisor, unit))
                for size, unit in zip(self.runs, self._unit)
            ]
        )

    def _units(self) -> list[list[int]]:
        """By run, how many channels of each layer's output one of its elements is."""
        units: list[list[int]] = [[] for _ in self.runs]
        for selection in self._outputs.values():
            runs, counts = np.unique(selection.run[selection.run >= 0], return_counts=True)
            for run, count in zip(runs.tolist(), counts.tolist()):
                units[run].append(count // self.runs[run])
        return units

    def used_width(self, width: float, divisor: int = 1) -> float:
        """The share of channels that a sub-network of ``width`` really keeps, after rounding.

        Where channels exist as heads or groups only, it can differ much from ``width``.
        """
        kept = self.kept(width, divisor)
        selections = self._outputs.values()
        return sum(kept.count(s) for s in selections) / max(1, sum(len(s) for s in selections))

    def sizes(self, module: str, number: int, kept: Kept) -> list[int]:
        """What may be left of a number of channels in a module; several if it counts several things."""
        options = self._sizes.get(module, {}).get(number, ())
        return list(dict.fromkeys(kept.count(option) for option in options))


def _tie_embeddings_to_heads(trace: Trace) -> bool:
    """Where an attention's heads take up just the embedding, the embedding has the heads' width.

    That is how transformers are built, and what their code relies on: ``head_dim = channels // heads``.
    Returns whether anything was tied.
    """
    classes = trace.labels.classes
    changed = False
    for ins, outs in trace.links:
        if len(outs) % len(ins):
            continue
        parts = classes.find(outs).reshape(-1, len(ins))
        heads, lengths = np.unique(parts[0], return_counts=True)
        # Channels of one class that lie in several heads (pieces that are added to each other) would make
        # all heads one.
        places = np.unique(np.stack([classes.find(ins), parts[0]]), axis=1)
        if (
            (parts == parts[0]).all()
            and 1 < len(heads) < len(ins)
            and (lengths == lengths[0]).all()
            and places.shape[1] == len(np.unique(places[0]))
        ):
            changed |= classes.union(ins, parts[0])
    return changed


def _find_runs(trace: Trace) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Sizes of the runs; and for each label that represents a class its run (or -1) and its rank."""
    classes = trace.labels.classes
    run_of, rank_of = np.full(len(classes), -1), np.zeros(len(classes), np.int64)
    signatures: dict[int, list[int]] = {}
    groups = [(labels, True) for labels in trace.producers]
    groups += [(labels, False) for labels in trace.labels.parts]
    for number, (labels, creates) in enumerate(groups):
        for root in dict.fromkeys(classes.find(labels).tolist()):
            if root > ALWAYS and (creates or root in signatures):
                signatures.setdefault(root, []).append(number)
    runs: dict[tuple[int, ...], list[int]] = {}
    for root, signature in signatures.items():
        runs.setdefault(tuple(signature), []).append(root)
    sizes: list[int] = []
    for members in runs.values():
        if len(members) > 1:
            for rank, root in enumerate(members):
                run_of[root], rank_of[root] = len(sizes), rank
            sizes.append(len(members))
    return sizes, run_of, rank_of
