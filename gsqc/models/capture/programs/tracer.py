# SPDX-License-Identifier: Apache-2.0
"""Tracer: a graph of torch's operators that is built call by call, for a fixed sequence length.

A call on constants alone is computed at once. So masks, positions and shapes become numbers, and
what is left depends on the tokens. Every size is bounded: a file may come from a stranger.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.fx
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from gsqc.errors import ModelError
from gsqc.models.capture import custom_ops
from gsqc.models.capture.layout_rules import CASTS, COPIES
from gsqc.models.capture.programs.shapes import as_number, on_meta, shape_of, tensors
from gsqc.models.capture.source import source_line
from gsqc.models.readers.text_files import first_line

Node = torch.fx.Node
Value = Any
"""A node of the graph, a constant tensor, or a number."""
aten = torch.ops.aten

MAXIMUM_NODES = 1 << 18
_SPARE = 1 << 22
"""Numbers that any program may compute."""
_COPIES = (*COPIES, aten.dropout.default)
_CASTS = (*CASTS, aten.type_as.default)
_VIEWS = (aten.view.default, aten._unsafe_view.default)
_RESHAPES = (aten.reshape.default, aten.expand.default)
_ARITHMETIC = (
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.mul.Tensor,
    aten.div.Tensor,
    aten.pow.Tensor_Tensor,
)


def _is_node(value: Any) -> bool:
    return isinstance(value, Node)


def _changes_kind(cast: Any, args: Any, kwargs: Any) -> bool:
    """Whether a cast makes whole numbers of floats, or the other way."""
    made = on_meta(cast, args, kwargs)
    return bool(made.is_floating_point() != args[0].meta["val"].is_floating_point())


class Tracer:
    """Builds the graph.

    graph   nodes have `meta["val"]`, a tensor of their shape on the device meta
    placed  the constants that nodes read, by their placeholders
    place   where what is traced now stands, in the form of a stack trace
    rows    for a constant that is rows of a stored table, by its identity: itself, the table, and
            the number of its first row
    codes   weights in codes, by the identity of the tensors without numbers that stand for them
    """

    def __init__(self, tokens: int, stored: int) -> None:
        """For sequences of `tokens`, of a file that holds `stored` numbers."""
        self.tokens = tokens
        self.graph = torch.fx.Graph()
        self.placed: dict[Node, Tensor] = {}
        self.rows: dict[int, tuple[Tensor, Tensor, int]] = {}
        self.codes: dict[int, Any] = {}
        self.place = ""
        self._by_identity: dict[int, Node] = {}
        self._tables: list[Tensor] = []
        self._turned: dict[int, tuple[Tensor, Tensor]] = {}
        self._most = max(stored, 4 * tokens * tokens) + _SPARE
        self._budget = 8 * stored + 256 * tokens * tokens + 16 * _SPARE
        self._nodes = 0

    def input(self, name: str) -> Node:
        """The tokens [1, T], or another input of that shape."""
        node = self.graph.placeholder(name)
        node.meta["val"] = torch.empty(1, self.tokens, dtype=torch.long, device="meta")
        return node

    def constant(self, tensor: Tensor) -> Node:
        """A placeholder for a constant tensor, the same one for the same tensor."""
        known = self._by_identity.get(id(tensor))
        if known is None:
            inputs = [n for n in self.graph.nodes if n.op == "placeholder"]
            with self.graph.inserting_after(inputs[-1]):
                known = self.graph.placeholder(f"constant_{len(self.placed)}")
            known.meta["val"] = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta"
            )
            self.placed[known] = tensor
            self._by_identity[id(tensor)] = known
        return known

    def embedding(self, table: Tensor, indices: Value) -> Value:
        """Rows of a table. Those of the first positions may be learned ones: it is kept in mind."""
        found = self.call(aten.embedding.default, table, indices)
        if isinstance(indices, Node):
            return found
        flat = indices.reshape(-1)
        if flat.numel() == self.tokens and bool(
            (flat == flat[0] + torch.arange(self.tokens)).all()
        ):
            self.rows[id(found)] = found, table, int(flat[0])
        return found

    def turned(self, weight: Tensor) -> Tensor:
        """A matrix with its axes swapped, the same one for the same matrix, without a copy."""
        if id(weight) not in self._turned:
            turned = weight.T
            self._turned[id(weight)] = weight, turned
            self._turned[id(turned)] = turned, weight
        return self._turned[id(weight)][1]

    def kept(self, table: Tensor) -> Tensor:
        """A table of these numbers, the same one for the same numbers."""
        known = next((t for t in self._tables if torch.equal(t, table)), None)
        if known is None:
            self._tables.append(known := table.contiguous())
        return known

    def linear(self, x: Value, w: Value, bias: Value = None) -> Value:
        """x · w as a linear, None unless w is a constant matrix and x is not."""
        if not isinstance(x, Node) or not isinstance(w, Tensor) or w.ndim != 2:
            return None
        more = () if bias is None else (bias,)
        return self.call(aten.linear.default, x, self.turned(w), *more)

    def split(self, x: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
        """The parts of an axis that have these sizes, each as a slice."""
        ends = pairwise([0, *accumulate(sizes)])
        return [self.call(aten.slice.Tensor, x, axis, start, end, 1) for start, end in ends]

    def rms_norm(self, x: Value, weight: Tensor, eps: float) -> Value:
        """RMS norm as one operator. Heads that are rows [1, T·H, D] become [1, T, H, D] for it."""
        shape = list(x.meta["val"].shape) if isinstance(x, Node) else []
        split = self._split_rows(x)
        y = self.call(custom_ops.rms_norm, split, weight, eps, 0.0)
        return y if split is x else self.call(aten.reshape.default, y, shape)

    def _split_rows(self, x: Value) -> Value:
        if not isinstance(x, Node) or x.target is not aten.reshape.default:
            return x
        source: Any = x.args[0]
        before, width = list(source.meta["val"].shape), x.meta["val"].shape[-1]
        if len(before) != 3 or before[:2] != [1, self.tokens] or before[2] in (0, width):
            return x
        heads = [1, self.tokens, before[2] // max(width, 1), width]
        return self.call(aten.reshape.default, source, heads)

    def call(self, op: Any, *args: Any, **kwargs: Any) -> Value:
        """The result of an operator of torch. Raises ModelError if it does not fit its operands."""
        self._nodes += 1
        if self._nodes > MAXIMUM_NODES:
            raise self.refused(f"the program has more than {MAXIMUM_NODES} operators")
        if op in _VIEWS:  # copies are left out, so that strides may be others
            op = aten.reshape.default
        # A cache with nothing in it adds nothing.
        if op is aten.cat.default and (full := [p for p in args[0] if 0 not in shape_of(p).shape]):
            if len(full) == 1:
                return full[0]
            args = full, *args[1:]
        leaves, _ = tree_flatten((args, kwargs))
        try:
            if not any(map(_is_node, leaves)):
                return self._folded(op, args, kwargs)
            return self._emitted(op, args, kwargs)
        except ModelError:
            raise
        except Exception as error:  # operators raise errors of many types
            raise self.refused(f"{op} does not fit its operands: {first_line(error)}") from error

    def refused(self, what: str) -> ModelError:
        """An error of the place that is traced now."""
        line = source_line({"stack_trace": self.place})
        return ModelError(f"{what} at {line}", "the file is damaged, or no plain decoder")

    def _folded(self, op: Any, args: Any, kwargs: Any) -> Value:
        shapes = on_meta(op, args, kwargs)
        sizes = [t.numel() for t in tensors(shapes)]
        if max(sizes, default=0) > self._most:
            raise self.refused(f"a constant of {max(sizes)} numbers is computed")
        with torch.no_grad():
            result = op(*args, **kwargs)
        owned = {t.untyped_storage().data_ptr() for t in tensors((args, kwargs))}
        fresh = [t for t in tensors(result) if t.untyped_storage().data_ptr() not in owned]
        self._budget -= sum(t.numel() for t in fresh)
        if self._budget < 0:
            raise self.refused("the program computes too many constants")
        return result

    def _emitted(self, op: Any, args: Any, kwargs: Any) -> Value:
        if op in _COPIES or (op in _CASTS and not _changes_kind(op, args, kwargs)):
            return args[0]
        if op is aten.transpose.int:
            axes = list(range(args[0].meta["val"].ndim))
            first, second = (axis % len(axes) for axis in args[1:3])
            axes[first], axes[second] = second, first
            return self._permuted(args[0], axes)
        if op is aten.reshape.default and args[0].target is op:
            return self.call(op, args[0].args[0], *args[1:])
        if op is aten.permute.default:
            return self._permuted(*args)
        if op in _ARITHMETIC:
            args = tuple(as_number(a) for a in args)
        return self._made(op, args, kwargs)

    def _made(self, op: Any, args: Any, kwargs: Any) -> Node:
        """A new call."""
        made = on_meta(op, tree_map(shape_of, args), tree_map(shape_of, kwargs))
        first: Node = args[0]
        if op in _RESHAPES and made.shape == first.meta["val"].shape:
            return first
        if not isinstance(made, Tensor):
            raise self.refused(f"{op} has several results")
        if made.numel() > 64 * self._most:
            raise self.refused(f"{op} has {made.numel()} results")

        def placed(value: Any) -> Any:
            return self.constant(value) if isinstance(value, Tensor) else value

        node = self.graph.call_function(op, tree_map(placed, args), tree_map(placed, kwargs))
        node.meta["val"] = made
        node.meta["stack_trace"] = self.place
        return node

    def _permuted(self, x: Node, order: list[int]) -> Node:
        """Axes in another order, in one step after others, or none if nothing moves."""
        order = [axis % len(order) for axis in order]
        if x.target is aten.permute.default:
            inner: Any = x.args[1]
            x, order = x.args[0], [inner[axis] for axis in order]  # type: ignore[assignment]
        if order == sorted(order):
            return x
        return self._made(aten.permute.default, (x, order), {})
