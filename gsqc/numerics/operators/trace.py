# SPDX-License-Identifier: Apache-2.0
"""Recording: a `TraceBuilder` turns an op's function into a list of operators.

It infers the shape and dtype of each result. Faults of an op raise AssertionError or ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gsqc.numerics.operators.builder import (
    COMPARISONS,
    ELEMENTWISE,
    TABLE_ENTRIES,
    Builder,
    Tensor,
)
from gsqc.numerics.operators.hadamard import ROTATED
from gsqc.numerics.operators.shapes import broadcast_shape


@dataclass(frozen=True, eq=False)
class Operator:
    """A recorded operator.

    operator       one of `builder.ELEMENTWISE`, or a name below
    args           the operators whose results it takes
    shape, dtype   of its result
    id             its place in the trace
    attributes     what else it takes, by name

    Beside the elementwise ones there are input (index), const (value), iota (axis), mulc
    (constant), reduce_max and reduce_sum (axis), rotate, cast, table (entries), reshape, transpose
    (permutation), slice (start), concat (axis), gather and matmul (shift).
    """

    operator: str
    args: tuple[Operator, ...]
    shape: tuple[int, ...]
    dtype: str
    id: int
    attributes: dict[str, Any] = field(default_factory=dict)


class Trace:
    """A recorded program.

    nodes    all operators in the order of execution
    inputs   those that stand for the tensors of the op's values, in order
    outputs  those whose results are the op's results, in order
    """

    def __init__(self) -> None:
        self.nodes: list[Operator] = []
        self.inputs: list[Operator] = []
        self.outputs: list[Operator] = []

    def live_nodes(self) -> list[Operator]:
        """The operators that an output depends on, in the order of execution.

        An input that no output depends on is left out too. `inputs` has them all.
        """
        live = {n.id for n in self.outputs}
        for node in reversed(self.nodes):
            if node.id in live:
                live.update(a.id for a in node.args)
        return [n for n in self.nodes if n.id in live]


class TraceBuilder(Builder):
    """Records into `self.trace`. The same operator on the same operands is recorded once."""

    def __init__(self) -> None:
        self.trace = Trace()
        self._seen: dict[tuple[Any, ...], Operator] = {}

    def input(self, shape: Sequence[int], dtype: str) -> Tensor:
        """The next tensor that the program is given."""
        node = self._append("input", (), tuple(shape), dtype, {"index": len(self.trace.inputs)})
        self.trace.inputs.append(node)
        return self._tensor(node)

    def output(self, *tensors: Tensor) -> None:
        """Add tensors to those that the program gives."""
        self.trace.outputs.extend(t.data for t in tensors)

    def _tensor(self, node: Operator) -> Tensor:
        return Tensor(self, node.shape, node.dtype, node)

    def _append(
        self,
        operator: str,
        args: tuple[Operator, ...],
        shape: tuple[int, ...],
        dtype: str,
        attributes: dict[str, Any],
    ) -> Operator:
        node = Operator(
            operator, args, tuple(int(n) for n in shape), dtype, len(self.trace.nodes), attributes
        )
        self.trace.nodes.append(node)
        return node

    def _record(
        self,
        operator: str,
        args: Sequence[Tensor],
        shape: Sequence[int],
        dtype: str = "int32",
        **attributes: Any,
    ) -> Tensor:
        nodes = tuple(a.data for a in args)
        key = (operator, tuple(n.id for n in nodes), tuple(shape), dtype, repr(attributes))
        if key not in self._seen:
            self._seen[key] = self._append(operator, nodes, tuple(shape), dtype, attributes)
        return self._tensor(self._seen[key])

    def const(self, value: int, rank: int) -> Tensor:
        """Records a constant."""
        return self._record("const", (), (1,) * rank, value=int(value))

    def iota(self, shape: Sequence[int], axis: int) -> Tensor:
        """Records the indices along an axis."""
        return self._record("iota", (), shape, axis=axis % len(shape))

    def elementwise(self, operator: str, *args: Tensor) -> Tensor:
        """Records an operator of ELEMENTWISE. Its operands must broadcast and be of its types."""
        assert operator in ELEMENTWISE, operator
        shape = broadcast_shape(*(a.shape for a in args))
        wanted = ("bool", "int32", "int32") if operator == "select" else ("int32",) * len(args)
        assert tuple(a.dtype for a in args) == wanted, (operator, [a.dtype for a in args])
        return self._record(operator, args, shape, "bool" if operator in COMPARISONS else "int32")

    def mulc(self, x: Tensor, constant: int) -> Tensor:
        """Records a product with a constant in [0, 2^31)."""
        assert 0 <= constant < 2**31
        return self._record("mulc", (x,), x.shape, constant=int(constant))

    def reduce(self, operator: str, x: Tensor, axis: int) -> Tensor:
        """Records a reduction of int32 along an axis in [0, rank)."""
        assert x.dtype == "int32"
        shape = [1 if k == axis else n for k, n in enumerate(x.shape)]
        return self._record(operator, (x,), shape, axis=axis)

    def rotate(self, x: Tensor) -> Tensor:
        """Records a rotation of int32 rows of 32 numbers."""
        assert x.dtype == "int32" and x.shape[-1] == ROTATED, (x.dtype, x.shape)
        return self._record("rotate", (x,), x.shape)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """Records a change of type."""
        return self._record("cast", (x,), x.shape, dtype)

    def table(self, x: Tensor, entries: Sequence[int]) -> Tensor:
        """Records a lookup, with its 513 entries, of an int16 tensor."""
        assert x.dtype == "int16" and len(entries) == TABLE_ENTRIES
        return self._record("table", (x,), x.shape, entries=tuple(int(v) for v in entries))

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Records a change of shape."""
        return self._record("reshape", (x,), shape, x.dtype)

    def transpose(self, x: Tensor, permutation: Sequence[int]) -> Tensor:
        """Records a change of the order of axes."""
        shape = [x.shape[p] for p in permutation]
        return self._record("transpose", (x,), shape, x.dtype, permutation=tuple(permutation))

    def slice(self, x: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
        """Records a part of x, which must lie inside."""
        assert all(s >= 0 and s + n <= m for s, n, m in zip(start, size, x.shape, strict=True))
        return self._record("slice", (x,), size, x.dtype, start=tuple(start))

    def concat(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        """Records several tensors behind each other along an axis."""
        axis %= len(xs[0].shape)
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return self._record("concat", xs, shape, xs[0].dtype, axis=axis)

    def gather(self, values: Tensor, indices: Tensor) -> Tensor:
        """Records the rows [W, C] that `indices` [W] chooses from `values` [K, C]."""
        return self._record(
            "gather", (values, indices), (indices.shape[0], values.shape[1]), values.dtype
        )

    def matmul(self, x: Tensor, w: Tensor, shift: int) -> Tensor:
        """Records x [N, M, K] · wᵀ of w [N, C, K], both int16, with its rounding shift."""
        assert (
            x.dtype == w.dtype == "int16" and x.shape[2] == w.shape[2] and x.shape[0] == w.shape[0]
        )
        return self._record("matmul", (x, w), (x.shape[0], x.shape[1], w.shape[1]), shift=shift)
