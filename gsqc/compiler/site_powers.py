# SPDX-License-Identifier: Apache-2.0
"""How strong each column of a site is: of its activations in the float model, and of its weights.

The model runs in 64-bit floats, layer by layer, with one layer's weights in memory. Two machines
add in different orders, and their sums differ by 10^-13 or so. What is made of them is a whole
number (`shifts_of`), so that could show only in a column which lies that near to a border.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.fx.node import map_arg

from gsqc.models import WeightSource, model_ops
from gsqc.numerics.ops.quantise import MOST_SHIFT
from gsqc.passes.outline import Node, Outline, Parameter, Part, Storage
from gsqc.passes.sites import find_sites

Array = npt.NDArray[Any]
Powers = tuple[Array, Array]
"""E[x²] and Σ w² of each column of a site."""
LEAST_POWER = 1e-20
"""Below it a column counts as one of this power: one that is always zero has no logarithm."""
TOKENS_AT_ONCE = 1024


@dataclass(frozen=True)
class Batch:
    """Records of one length that run together, one behind the other: their tokens, int64 [R, T]."""

    tokens: Tensor

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, *of_heads: Tensor, **settings: Any
    ) -> Tensor:
        """`model_ops.attention` within each record."""
        count, length = self.tokens.shape
        # A record's heads are heads beside those of the others: each still has its own keys.
        apart = (
            x.reshape(len(x), count, length, -1).transpose(0, 1).flatten(0, 1) for x in (q, k, v)
        )
        # A number for each head is one for that head in each record.
        repeated = (numbers.repeat(count) for numbers in of_heads)
        out = model_ops.attention(*apart, *repeated, **settings)
        return out.reshape(count, len(q), length, -1).transpose(0, 1).flatten(1, 2)

    def positions(self, table: Array) -> Tensor:
        """The entries of a table of positions, for each token's place in its record. A vector is
        no table of positions, unless it is of integers.
        """
        if table.ndim == 1 and table.dtype.kind == "f":
            return torch.from_numpy(table)
        count, length = self.tokens.shape
        entries = torch.from_numpy(table[:length])
        return entries.repeat(count, *(1 for _ in entries.shape[1:]))


def _of_embedding(parameter: Parameter, weights: WeightSource) -> Tensor:
    """A parameter of the embedding. Large tables stay in float32: rows of them are doubled."""
    # A copy, because what a source gives may be read-only.
    tensor = torch.from_numpy(np.array(weights.float32(parameter.name)))
    return tensor if parameter.storage is Storage.TABLE else tensor.double()


def _batches(records: Array) -> list[Batch]:
    at_once = max(1, TOKENS_AT_ONCE // records.shape[1])
    return [Batch(part) for part in torch.split(torch.from_numpy(records), at_once)]


def _embedding(tokens: Tensor, table: Tensor) -> Tensor:
    # The table is the largest weight of all: only its rows that are read become wider.
    return model_ops.embedding(tokens, table).double()


def _position_embedding(positions: Tensor, table: Tensor, *, offset: int) -> Tensor:
    return model_ops.position_embedding(positions, table, offset=offset).double()


Seen = Callable[[Node, Tensor], None]
"""Called with each linear and what it reads."""


def _nothing(node: Node, x: Tensor) -> None: ...


def _run(
    part: Part, batch: Batch, x: Tensor, known: Mapping[Node, Tensor], seen: Seen = _nothing
) -> Tensor:
    """The part's result for x. `known` are its parameters and the tables of positions."""
    values = {**known, part.input: x}
    replaced: dict[Any, Any] = {
        model_ops.attention: batch.attention,
        model_ops.embedding: _embedding,
        model_ops.position_embedding: _position_embedding,
    }
    for node in part.nodes:
        args: Any = map_arg(node.args, values.__getitem__)
        if node.target is model_ops.linear:
            seen(node, args[0])
        values[node] = replaced.get(node.target, node.target)(*args, **node.kwargs)
    return values[part.nodes[-1]]


def _tables(part: Part, batch: Batch, constants: Mapping[str, Array]) -> dict[Node, Tensor]:
    taken = {a for n in part.nodes for a in n.all_input_nodes}
    tables = {a: constants[a.meta["constant"]] for a in taken if "constant" in a.meta}
    # The positions themselves are a table, too: entry t is t.
    tables |= {a: np.arange(*a.meta["shape"]) for a in taken if "positions" in a.meta}
    return {node: batch.positions(table) for node, table in tables.items()}


class _Layer:
    """One layer: its weights in 64 bits, and the sums of squares of what its sites read."""

    def __init__(self, part: Part, names: list[str], weights: WeightSource) -> None:
        self.part = part
        self.names = {p.node: name for p, name in zip(part.parameters, names, strict=True)}
        self.weights = {
            node: torch.from_numpy(weights.float32(name).astype(np.float64))
            for node, name in self.names.items()
        }
        self.sites = find_sites(part.nodes)
        linears = [n for n in part.nodes if n.target is model_ops.linear]
        # q, k and v read the same: it counts once.
        self.readers = {n.all_input_nodes[0]: n for n in reversed(linears)}
        self.sums: dict[Node, Tensor] = {}
        self.counts: dict[Node, int] = {}

    def add(self, node: Node, x: Tensor) -> None:
        """Add what a linear reads."""
        source, weight = node.all_input_nodes
        if self.readers[source] is node:
            first, total = self.sites[weight], x.square().sum(0)
            self.sums[first] = total + self.sums[first] if first in self.sums else total
            self.counts[first] = self.counts.get(first, 0) + len(x)

    def powers(self) -> dict[str, Powers]:
        """Those of each site, by the name of its first weight."""
        found: dict[str, Powers] = {}
        for first, total in self.sums.items():
            own = [self.weights[w] for w, site in self.sites.items() if site is first]
            of_weights = torch.cat(own).square().sum(0)
            found[self.names[first]] = (total / self.counts[first]).numpy(), of_weights.numpy()
        return found


def site_powers(
    outline: Outline,
    weights: WeightSource,
    constants: Mapping[str, Array],
    records: Array,
    progress: Callable[[str], None],
) -> dict[str, Powers]:
    """The powers of each site, by the name of its first weight.

    x is what the untouched model computes for `records` of tokens, int64 [R, T].
    """
    embed = outline.embed
    found: dict[str, Powers] = {}
    table = {p.node: _of_embedding(p, weights) for p in embed.parameters}
    with torch.inference_mode():
        batches = _batches(records)
        stream = [
            _run(embed, b, b.tokens.flatten(), table | _tables(embed, b, constants))
            for b in batches
        ]
        for layer, (kind, names) in enumerate(zip(outline.layer_kinds, outline.names, strict=True)):
            progress(f"calibrating, layer {layer + 1} of {outline.layers}")
            one = _Layer(outline.kinds[kind], names, weights)
            for k, batch in enumerate(batches):
                known = one.weights | _tables(one.part, batch, constants)
                stream[k] = _run(one.part, batch, stream[k], known, one.add)
            found.update(one.powers())
    return found


def shifts_of(activations: Array, weights: Array) -> Array:
    """From E[x²] and Σ w² of a site's columns to its shifts, int8 [1, columns], 0 to MOST_SHIFT.

    x is divided and w multiplied by s = 2^round(log2(E[x²] / Σ w²) / 4), which makes their columns
    equally strong. A common factor of all s changes nothing, so the largest s is no shift. Columns
    outside of 8 octaves get the nearest shift: the octaves are those that hold most columns, and
    the highest of several such.
    """
    ratio = np.maximum(activations, LEAST_POWER) / np.maximum(weights, LEAST_POWER)
    if not np.isfinite(ratio).all():  # a model without an epsilon may divide zero by zero
        return np.zeros((1, len(ratio)), np.int8)
    octave = np.rint(np.log2(ratio) / 4).astype(np.int64)
    tops = np.arange(octave.max(), min(octave.min() + MOST_SHIFT, octave.max()) - 1, -1)
    inside = [((octave <= top) & (octave >= top - MOST_SHIFT)).sum() for top in tops]
    top = octave[octave <= tops[int(np.argmax(inside))]].max()
    shifts: Array = (top - octave).clip(0, MOST_SHIFT).astype(np.int8)
    return shifts[None]
