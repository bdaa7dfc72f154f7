# SPDX-License-Identifier: Apache-2.0
"""What all multiply-accumulate units share.

Operands are registered, one cycle of logic follows, and the sum is registered. A unit takes `lanes`
products a cycle. `clear` begins a new sum with this cycle's products.

The meaning of a unit stands beside its RTL, as a function of exact Python integers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hardware.float_formats import Float
from hardware.group_formats import Gse, Int8

Format = Gse | Int8 | Float
SUM_LENGTH = 65536
"""Products that an exact sum holds, even if all are the largest."""


@dataclass(frozen=True)
class Cycle:
    """Codes of one cycle's operands: a mantissa or number a lane, and the scale of each side."""

    x: tuple[int, ...]
    y: tuple[int, ...]
    x_scale: int
    y_scale: int
    clear: bool


class Component(Protocol):
    """What is simulated: ports by width in bits, `lanes` numbers a cycle, and a meaning."""

    sizes: dict[str, int]
    lanes: int
    output: str

    def words(self, cycle: Cycle) -> dict[str, int]:
        """A cycle's operands as the ports take them."""

    def meaning(self, old: int, cycle: Cycle) -> int:
        """The output that follows from a cycle, `old` being the one before it."""


def signed_width(largest: int) -> int:
    """Bits of a two's complement number of -largest to largest."""
    return largest.bit_length() + 1


def adder_tree(terms: Iterable[Any]) -> Any:
    """Sum of all terms, pair by pair. Amaranth widens each sum by a bit."""
    level = list(terms)
    while len(level) > 1:
        pairs = [a + b for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0]


def packed(codes: Iterable[int], width: int) -> int:
    """Codes as one word, the first in the lowest bits."""
    return sum(int(code) << (width * i) for i, code in enumerate(codes))


class Unit(wiring.Component):
    """A multiply-accumulate unit. Subclasses give the sum's next value, as RTL and as a number."""

    output = "total"
    _MustUse__silence = True  # a meaning alone is a use, of which amaranth does not know

    def __init__(self, x: Format, y: Format, lanes: int, sum_shape: Any) -> None:
        self.x_format, self.y_format, self.lanes, self.sum_shape = x, y, lanes, sum_shape
        sizes = {
            "x": x.width * lanes,
            "y": y.width * lanes,
            "x_scale": x.scale_width,
            "y_scale": y.scale_width,
            "clear": 1,
        }
        self.sizes = {name: bits for name, bits in sizes.items() if bits}
        ports = {name: In(bits) for name, bits in self.sizes.items()}
        super().__init__({**ports, "total": Out(sum_shape)})

    def elaborate(self, _platform: object) -> Module:
        """Registers around the logic of `next_sum`. No register is reset: `clear` does that."""
        m = Module()
        self.held = {}
        for name in self.sizes:
            port = getattr(self, name)
            self.held[name] = Signal.like(port, name=f"held_{name}", reset_less=True)
            m.d.sync += self.held[name].eq(port)
        state, old = Signal(self.sum_shape, reset_less=True), Signal(self.sum_shape)
        m.d.comb += [self.total.eq(state), old.eq(Mux(self.held["clear"], 0, state))]
        m.d.sync += state.eq(self.next_sum(m, old))
        return m

    def lanes_of(self, name: str) -> list[Any]:
        """The registered numbers of one side."""
        word = self.held[name]
        width = len(word) // self.lanes
        return [word[i * width : (i + 1) * width] for i in range(self.lanes)]

    def words(self, cycle: Cycle) -> dict[str, int]:
        """A cycle's operands as the ports take them."""
        words = {
            "x": packed(cycle.x, self.x_format.width),
            "y": packed(cycle.y, self.y_format.width),
            "x_scale": cycle.x_scale,
            "y_scale": cycle.y_scale,
            "clear": int(cycle.clear),
        }
        return {name: words[name] for name in self.sizes}

    def next_sum(self, m: Module, old: Any) -> Any:
        """RTL of the sum after this cycle, `old` being the one before it, or 0 at `clear`."""
        raise NotImplementedError

    def meaning(self, old: int, cycle: Cycle) -> int:
        """What `next_sum` must be."""
        raise NotImplementedError
