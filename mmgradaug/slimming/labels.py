"""Which channel every element of a tensor belongs to.

A *label* is a number that stands for one channel of one dimension of one parameter. While a network is
traced, each tensor is shadowed by *factors*: tensors of labels, broadcastable to its shape, that say for
every element which channels it needs. Channels that an operation ties together (two branches that are
added, a batch norm's weight and what it normalises) become one class of a union-find.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .errors import SlimmingError
from .residual import Route

# An element that is always there: the image itself, or channels that an output shows.
ALWAYS = 0
# An element that takes the place of whatever is there, such as the zeros of a padding.
ANY = -1

# Whole numbers in a type in which every data movement of PyTorch is implemented.
LABEL_TYPE = torch.float64


class Classes:
    """A union-find over labels. The class of label 0 (:data:`ALWAYS`) is never narrowed."""

    def __init__(self) -> None:
        self._parent = np.zeros(1, np.int64)
        # While a sub-network is tried out nothing is tied; and while it is compared with its plan, whatever
        # meets has to be tied already.
        self.frozen = self.strict = False

    def __len__(self) -> int:
        return len(self._parent)

    def new(self, number: int) -> np.ndarray:
        """That many new labels, each in a class of its own."""
        labels = np.arange(len(self), len(self) + number)
        self._parent = np.concatenate([self._parent, labels])
        return labels

    def find(self, labels: np.ndarray) -> np.ndarray:
        """The representative (the smallest label) of each label's class; :data:`ANY` stays."""
        labels = np.asarray(labels, np.int64)
        roots = np.where(labels < 0, 0, labels)
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        self._parent[np.where(labels < 0, 0, labels)] = roots
        return np.where(labels < 0, ANY, roots)

    def union(self, first: np.ndarray, second: np.ndarray) -> bool:
        """Tie labels together, element by element; :data:`ANY` ties nothing. Returns whether any were apart."""
        pairs = np.stack(np.broadcast_arrays(first, second), -1).reshape(-1, 2).astype(np.int64)
        pairs = pairs[(pairs >= 0).all(1)]
        changed = False
        while len(pairs):
            pairs = np.sort(self.find(pairs), axis=1)
            pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
            if self.frozen:
                if self.strict and len(pairs):
                    raise SlimmingError('channels meet that do not belong together')
                return False
            np.minimum.at(self._parent, pairs[:, 1], pairs[:, 0])
            changed |= len(pairs) > 0
        return changed


@dataclass
class Shadow:
    """What is known of a tensor.

    Args:
        factors: label tensors with as many dimensions as the tensor, of size 1 in dimensions along which
            the label does not change. An element needs the channels of all factors.
        adapts: the tensor was made during the forward pass (zeros, a random mask), so that it has whatever
            size its surroundings have.
        of_parameters: it was computed from parameters and buffers alone.
        carries: by the number of a module call, how the module's input reaches this tensor; see
            :mod:`~mmgradaug.slimming.residual`.
    """

    factors: list[Tensor] = field(default_factory=list)
    adapts: bool = False
    of_parameters: bool = False
    carries: dict[int, Route] = field(default_factory=dict)


def varying(factor: Tensor) -> tuple[int, ...]:
    """The dimensions along which a factor's label changes."""
    return tuple(d for d, size in enumerate(factor.shape) if size > 1)


def compress(labels: Tensor) -> Tensor:
    """The same labels with size 1 in each dimension along which they do not change."""
    values = labels.numpy()
    for dim, size in enumerate(values.shape):
        first = values.take((0,), dim) if size > 1 else values
        if size > 1 and (values.strides[dim] == 0 or (values == first).all()):
            values = first
    return torch.from_numpy(values)


def aligned(factor: Tensor, dims: int) -> Tensor:
    """The factor with leading dimensions of size 1, as in broadcasting."""
    return factor.reshape((1,) * (dims - factor.dim()) + tuple(factor.shape))


def reshaped(factor: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """A factor of a tensor of shape ``old`` after that became ``new``; only what changes is spread out."""
    spread: list[int] = []
    shape: list[int] = []
    i = j = 0
    while i < len(old) or j < len(new):
        first_old, first_new = i, j
        size_old = size_new = 1
        while i == first_old and j == first_new or size_old != size_new:
            if size_old <= size_new and i < len(old):
                size_old *= old[i]
                i += 1
            else:
                size_new *= new[j]
                j += 1
        changes = any(size > 1 for size in factor.shape[first_old:i])
        spread += old[first_old:i] if changes else [1] * (i - first_old)
        shape += new[first_new:j] if changes else [1] * (j - first_new)
    return factor.expand(spread).reshape(shape)


def to_numpy(labels: Tensor) -> np.ndarray:
    return labels.numpy().astype(np.int64)


class Labels:
    """The labels of a network's tensors and what happens to them, whatever the operation is."""

    def __init__(self) -> None:
        self.classes = Classes()
        # Sets of labels that were split off from others: each part keeps its own first channels.
        self.parts: list[np.ndarray] = []
        # Factors along several dimensions at once, of which the same must exist in each row.
        self.crossed: list[Tensor] = []

    def tie(self, first: Tensor, second: Tensor) -> bool:
        return self.classes.union(to_numpy(first), to_numpy(second))

    def always(self, factor: Tensor) -> None:
        """These channels are there in every sub-network."""
        if self.classes.frozen:
            return
        self.classes.union(to_numpy(factor), np.int64(ALWAYS))

    def canonical(self, factor: Tensor) -> Tensor:
        roots = self.classes.find(to_numpy(factor))
        return compress(torch.from_numpy(roots).to(LABEL_TYPE))

    def new_factors(self, shape: Sequence[int]) -> list[Tensor]:
        """A parameter's: one for each dimension of more than one element."""
        factors = []
        for dim, size in enumerate(shape):
            if size > 1:
                view = [1] * len(shape)
                view[dim] = size
                labels = torch.from_numpy(self.classes.new(size)).to(LABEL_TYPE)
                factors.append(labels.view(view))
        return factors

    def merge_along(self, factor: Tensor, dims: Sequence[int]) -> Tensor:
        """Tie together what differs along some dimensions; the factor without these."""
        first = factor
        for dim in dims:
            first = first.narrow(dim, 0, 1)
        self.tie(factor, first)
        return compress(first)

    def combine(
        self, operands: Sequence[Shadow], shapes: Sequence[Sequence[int]], dims: int
    ) -> list[Tensor]:
        """The factors of an element-wise result.

        Factors that change along a common dimension are tied together. Where one operand has channels
        and another has the same dimension in full, without labels, the channels are always there.

        Args:
            operands: with the shapes of their tensors, as broadcasting takes them.
            dims: the number of dimensions of the result.
        """
        open_groups: list[tuple[set[int], list[tuple[int, Tensor]]]] = []
        for index, operand in enumerate(operands):
            for factor in operand.factors:
                factor = aligned(factor, dims)
                along = set(varying(factor))
                if not along:
                    # One channel alone: it has to be there.
                    self.always(factor)
                    continue
                members = [(index, factor)]
                for group in [g for g in open_groups if g[0] & along]:
                    open_groups.remove(group)
                    along |= group[0]
                    members = group[1] + members
                open_groups.append((along, members))
        results = []
        for along, members in open_groups:
            result = members[0][1]
            for _, factor in members[1:]:
                self.tie(result, factor)
                known, other = torch.broadcast_tensors(result, factor)
                result = torch.where(known == ANY, other, known)
            having = {index for index, _ in members}
            for index, (operand, shape) in enumerate(zip(operands, shapes)):
                full = (1,) * (dims - len(shape)) + tuple(shape)
                if index in having or operand.adapts or all(full[d] == 1 for d in along):
                    continue
                self.always(result)
            result = self.canonical(result)
            if varying(result) and not bool((result == ALWAYS).all()):
                results.append(result)
        return results

    def reduce(
        self, factors: Sequence[Tensor], dims: Sequence[int], softmax: bool = False
    ) -> list[Tensor]:
        """What is left of factors after a sum, mean or maximum along dimensions, which keep size 1.

        Channels along these dimensions alone are summed up and gone. Where a label depends on other
        dimensions too (channels in heads, in groups), the elements that are summed up must exist together.
        """
        results = []
        for factor in factors:
            along = set(varying(factor))
            reduced = along & set(dims)
            if reduced and along - reduced:
                factor = self.merge_along(factor, sorted(reduced))
            elif reduced and not softmax:
                continue
            results.append(factor)
        return results

    def contract(
        self, left: Shadow, right: Shadow, adapts: tuple[bool, bool]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Of a matrix product, in coordinates (batch, m, n, k): factors of the result, and contracted ones.

        Args:
            left: factors of shape (batch, m, 1, k), or 1 in any of these.
            right: (batch, 1, n, k).
            adapts: whether each has whatever size the other has.

        Returns:
            Factors of the result, (batch, m, n, 1); and those along k of the left and of the right operand.
        """
        inner = [[f for f in s.factors if f.shape[3] > 1] for s in (left, right)]
        outer = [[f for f in s.factors if f.shape[3] == 1] for s in (left, right)]
        for mine, other, other_adapts in ((0, 1, adapts[1]), (1, 0, adapts[0])):
            for factor in inner[mine]:
                # Channels of a head, over which the other one sums in full, exist as often as the head does.
                shared = set(varying(factor)) & {d for f in outer[other] for d in varying(f)}
                if not inner[other] and not other_adapts and not shared:
                    self.always(factor)
                for partner in inner[other]:
                    self.tie(factor, partner)
        left_over = []
        for factor in (*inner[0], *inner[1]):
            factor = self.canonical(factor)
            along = varying(factor)
            if 3 in along and len(along) > 1:
                left_over.append(self.merge_along(factor, [3]))
        operands = [Shadow(each, adapts=True) for each in (outer[0] + left_over, outer[1])]
        return self.combine(operands, [(1,) * 4] * 2, 4), inner[0], inner[1]

    def straighten(self) -> bool:
        """Tie together what a tensor needs to be rectangular: a dimension of channels that was split into
        several has the same channels in each part. Returns whether anything was tied."""
        changed = False
        for factor in self.crossed:
            factor = self.canonical(factor)
            along = varying(factor)
            if len(along) > 1:
                first = factor
                for dim in along[:-1]:
                    first = first.narrow(dim, 0, 1)
                changed |= self.tie(factor, first)
        return changed

    def split_off(self, whole: Sequence[Tensor], pieces: Sequence[Tensor]) -> bool:
        """Note pieces that hold some channels of a dimension and not others; whether there are any."""
        found = False
        everything = set()
        for factor in whole:
            everything.update(np.unique(self.classes.find(to_numpy(factor))).tolist())
        for piece in pieces:
            labels = np.unique(self.classes.find(to_numpy(piece)))
            if 0 < len(set(labels.tolist()) - {ANY}) < len(everything - {ANY}):
                self.parts.append(labels[labels > ALWAYS])
                found = True
        return found
