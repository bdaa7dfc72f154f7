# SPDX-License-Identifier: Apache-2.0
"""Layout programs: the value of one element, its index maps folded into the loads.

Such a program has no reductions, so an element of a result is an expression over elements of the
inputs. Transposes, reshapes and slices only change the index on the way from the one to the other:
nothing is stored between them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from gsqc.numerics.operators.trace import Operator

Expr = Any
"""An expression of the target's language with the operators +, *, - and <."""
Index = Sequence[Expr]


class LayoutValues(ABC):
    """Evaluates nodes at multi-indices; a target says what its expressions are."""

    @abstractmethod
    def constant(self, value: int) -> Expr:
        """A constant."""

    @abstractmethod
    def divide(self, x: Expr, by: int) -> Expr:
        """x // by for x ≥ 0."""

    @abstractmethod
    def remainder(self, x: Expr, by: int) -> Expr:
        """x % by for x ≥ 0."""

    @abstractmethod
    def clamp(self, x: Expr, most: int) -> Expr:
        """x kept within [0, most]."""

    @abstractmethod
    def select(self, condition: Expr, x: Expr, y: Expr) -> Expr:
        """x where the condition holds, else y. Both are evaluated."""

    @abstractmethod
    def load(self, node: Operator, position: Expr) -> Expr:
        """An element of an input, by its flat position."""

    @abstractmethod
    def apply(self, node: Operator, args: list[Expr]) -> Expr:
        """An element-wise operator."""

    def value(self, node: Operator, index: Index) -> Expr:
        """One element of a node."""
        # An operator that moves elements has a method below. The others are element-wise.
        rule = getattr(self, f"_{node.operator}", None)
        if rule is not None:
            return rule(node, index)
        return self.apply(node, [self.value(a, self._broadcast(index, a)) for a in node.args])

    def flat(self, index: Index, shape: Sequence[int]) -> Expr:
        """The position of a multi-index in row-major order."""
        position: Expr = self.constant(0)
        for i, size in zip(index, shape, strict=True):
            position = position * self.constant(size) + i if size > 1 else position
        return position

    def unflatten(self, position: Expr, shape: Sequence[int]) -> list[Expr]:
        """The multi-index of a position."""
        index = []
        stride = math.prod(shape)
        for size in shape:
            stride //= size
            index.append(
                self.remainder(self.divide(position, stride), size)
                if size > 1
                else self.constant(0)
            )
        return index

    def _broadcast(self, index: Index, source: Operator) -> Index:
        return [
            self.constant(0) if size == 1 else i
            for i, size in zip(index, source.shape, strict=True)
        ]

    def _input(self, node: Operator, index: Index) -> Expr:
        return self.load(node, self.flat(index, node.shape))

    def _const(self, node: Operator, index: Index) -> Expr:
        return self.constant(node.attributes["value"])

    def _iota(self, node: Operator, index: Index) -> Expr:
        return index[node.attributes["axis"]]

    def _reshape(self, node: Operator, index: Index) -> Expr:
        """The element at the same position in row-major order."""
        source = node.args[0]
        # Leading dimensions that both shapes share keep their index: no division for them.
        same = 0
        while (
            same < min(len(node.shape), len(source.shape))
            and node.shape[same] == source.shape[same]
        ):
            same += 1
        position = self.flat(index[same:], node.shape[same:])
        return self.value(source, [*index[:same], *self.unflatten(position, source.shape[same:])])

    def _transpose(self, node: Operator, index: Index) -> Expr:
        permutation = node.attributes["permutation"]
        return self.value(
            node.args[0], [index[permutation.index(k)] for k in range(len(permutation))]
        )

    def _slice(self, node: Operator, index: Index) -> Expr:
        start = node.attributes["start"]
        inside = [i + self.constant(s) if s else i for i, s in zip(index, start, strict=True)]
        return self.value(node.args[0], inside)

    def _concat(self, node: Operator, index: Index) -> Expr:
        """A choice by position."""
        axis, end = node.attributes["axis"], node.shape[node.attributes["axis"]]
        result = None
        for part in reversed(node.args):
            end -= part.shape[axis]
            # The parts that are not chosen are loaded, too: at an index that they have.
            inside = self.clamp(index[axis] - self.constant(end), part.shape[axis] - 1)
            value = self.value(part, [*index[:axis], inside, *index[axis + 1 :]])
            before = index[axis] < self.constant(end + part.shape[axis])
            result = value if result is None else self.select(before, value, result)
        return result

    def _gather(self, node: Operator, index: Index) -> Expr:
        values, indices = node.args
        return self.value(values, [self.value(indices, index[:1]), *index[1:]])
