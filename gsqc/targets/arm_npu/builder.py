# SPDX-License-Identifier: Apache-2.0
"""VelaBuilder: records programs in the form that Vela compiles to right and fast code."""

from __future__ import annotations

from collections.abc import Sequence

from gsqc.numerics.operators.builder import Tensor
from gsqc.numerics.operators.trace import Trace
from gsqc.targets.arm_npu.vela_faults import VelaFaults
from gsqc.targets.programs import MarkingBuilder, ProgramStyle
from gsqc.targets.tosa.serialise import serialise


class VelaBuilder(MarkingBuilder):
    """Merges transposes, and records a cast in the shape of the int32 operator beside it."""

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """A reshape moves to the narrow side of a cast, and before a slice of whole rows."""
        # Vela makes one pass over memory of operators in a row that have one shape. Moved like
        # this, the cast ends such a row, and what the pass writes is the narrow tensor.
        if x.data.operator == "cast" and x.dtype == "int32":
            return self.cast(self.reshape(self._tensor(x.data.args[0]), shape), "int32")
        # The reshape of the whole tensor moves nothing, and all slices of it share that one.
        if (
            x.data.operator == "slice"
            and x.shape[1:] == x.data.args[0].shape[1:]
            and shape[0] == x.shape[0]
        ):
            whole = self._tensor(x.data.args[0])
            zeros = (0,) * (len(shape) - 1)
            rows = self.reshape(whole, (whole.shape[0], *shape[1:]))
            return self.slice(rows, (x.data.attributes["start"][0], *zeros), shape)
        return super().reshape(x, shape)

    def cast(self, x: Tensor, dtype: str) -> Tensor:
        """A cast of a reshaped int32 tensor comes before the reshape."""
        if x.data.operator == "reshape" and x.dtype == "int32":
            return super().reshape(self.cast(self._tensor(x.data.args[0]), dtype), x.shape)
        return super().cast(x, dtype)

    def transpose(self, x: Tensor, permutation: Sequence[int]) -> Tensor:
        """A transpose of a transpose is one."""
        # Vela merges the two itself, and loses the first where that is a result too.
        if x.data.operator == "transpose":
            inner = x.data.attributes["permutation"]
            x, permutation = self._tensor(x.data.args[0]), [inner[p] for p in permutation]
        return super().transpose(x, permutation)


STYLE = ProgramStyle(VelaBuilder, VelaFaults)
"""How programs are recorded and written for Vela."""


def serialise_for_vela(trace: Trace) -> bytes:
    """A recorded program as TOSA, without the forms that Vela gets wrong."""
    return serialise(trace, VelaFaults)
