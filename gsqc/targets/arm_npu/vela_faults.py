# SPDX-License-Identifier: Apache-2.0
"""Forms that Vela 5.2.0 compiles to wrong code for Ethos-U85. The serialiser writes them in
another way.

select      One of its values is also reshaped: Vela takes the other shape. The serialiser writes
            bitwise operators instead.
reduce_max  It takes a slice, over the last axis: Vela reads the whole tensor. The serialiser writes
            MAXIMUM with -2^31 in between.
gather      A result of the program is also transposed: Vela leaves it out. The serialiser makes it
rotate      another tensor with IDENTITY.
reduce_max

tests/targets/arm_npu/test_vela_faults.py shows each of them. It fails when a version of Vela is
right.
"""

from __future__ import annotations

from gsqc.numerics.operators.trace import Operator, Trace
from gsqc.targets.programs import Forms

_SAME_BYTES = ("reshape", "transpose")
"""Operators of which Vela may find that they move nothing."""


_RESHAPED_LAST = ("gather", "rotate", "reduce_max")
"""Operators whose last operator is a RESHAPE: of TOSA, or for reduce_max of Vela."""


def _origin(node: Operator) -> Operator:
    while node.operator in _SAME_BYTES:
        node = node.args[0]
    return node


class VelaFaults(Forms):
    """Which operators of a program have one of the forms."""

    def __init__(self, trace: Trace) -> None:
        # Dead operators are not written, so Vela never sees their forms.
        nodes = trace.live_nodes()
        self._reshaped = {
            _origin(a).id for n in nodes if n.operator in (*_SAME_BYTES, "gather") for a in n.args
        }
        self._transposed = {a.id for n in nodes if n.operator == "transpose" for a in n.args}

    def masks(self, select: Operator) -> bool:
        """A value of the SELECT is also reshaped."""
        return any(_origin(value).id in self._reshaped for value in select.args[1:])

    def guards(self, reduce_max: Operator) -> bool:
        """The maximum is taken of a slice."""
        return _origin(reduce_max.args[0]).operator == "slice"

    def copies(self, result: Operator) -> bool:
        """The result of one of the last three forms is also transposed."""
        return result.operator in _RESHAPED_LAST and result.id in self._transposed
