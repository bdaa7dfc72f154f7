# SPDX-License-Identifier: Apache-2.0
"""Each operation on its own, and each case of each op: the interpreter gives what numpy and Arm's
model give.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from gsqc.numerics.formats import flatten, to_spec
from gsqc.numerics.operators.builder import Tensor, where
from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.numerics.operators.trace import Trace
from gsqc.numerics.ops.registry import OPS, Case, evaluate, trace
from gsqc.targets.arm_npu.builder import VelaBuilder, serialise_for_vela
from gsqc.targets.tosa.reference_model import run_reference_model
from tests.numerics.ops.test_exact import PARAMETERS
from tests.targets.arm_npu.compiling import SIZES, Array, assert_same, needs_npu, run_compiled

pytestmark = needs_npu
FULL, ROW, COLUMN = (3, 20, 40), (3, 1, 40), (3, 20, 1)
ROTATED = (2, 3, 10, 32)
TABLE = [(k * k * 37) % 5000 - 2500 for k in range(513)]


def _matmul(x: Tensor, y: Tensor) -> Tensor:
    return x.builder.matmul(x.cast("int16"), y.cast("int16"), 7)


Function = Callable[..., Tensor]
OPERATIONS: dict[str, tuple[Function, tuple[tuple[int, ...], ...]]] = {
    "add": (lambda x, y: x + y, (FULL, ROW)),
    "sub from a constant": (lambda x: 5 - x, (FULL,)),
    "mul broadcast twice": (lambda x, y: x * y, (ROW, COLUMN)),
    "minimum": (lambda x, y: x.minimum(y), (COLUMN, FULL)),
    "maximum": (lambda x, y: x.maximum(y), (FULL, (1, 1, 40))),
    "abs": (lambda x: x.abs(), (FULL,)),
    "clz": (lambda x: x.abs().clz(), (FULL,)),
    "left shift": (lambda x, y: x << (y & 7), (FULL, COLUMN)),
    "logical right shift": (lambda x, y: x.logical_shift(y & 31), (FULL, FULL)),
    "right shift": (lambda x, y: x >> (y & 31), (FULL, ROW)),
    "rounding right shift": (lambda x, y: x.round_shift(y & 31), (FULL, COLUMN)),
    "rounding right shift by a constant": (lambda x: x.round_shift(3), (FULL,)),
    "and": (lambda x, y: x & y, (FULL, FULL)),
    "or": (lambda x: x | 0x155, (FULL,)),
    "xor": (lambda x, y: x ^ y, (FULL, ROW)),
    "greater and select": (lambda x, y: where(x.greater(y), x, y), (FULL, COLUMN)),
    "equal and select a constant": (lambda x, y: where((x & 3).equal(y & 3), 7, x), (FULL, ROW)),
    "a comparison as a number": (lambda x, y: x.greater(y).cast("int32"), (FULL, FULL)),
    "mulr15": (lambda x, y: (x << 20).mulr15(y), (FULL, FULL)),
    "mulr30": (lambda x, y: (x << 19).mulr30(y << 19), (FULL, ROW)),
    "mulc": (lambda x: (x << 19).mulc(1234567891), (FULL,)),
    "narrow to int8 and back": (lambda x: x.clamp(-128, 127).cast("int8").cast("int32"), (FULL,)),
    "narrow to int16 and back": (lambda x: x.cast("int16").cast("int32"), (FULL,)),
    "table": (lambda x: x.builder.table((x * 31).cast("int16"), TABLE), (FULL,)),
    "reshape": (lambda x: x.reshape(20, 120) + 1, (FULL,)),
    "slice": (lambda x: x.slice((1, 3, 8), (2, 10, 21)), (FULL,)),
    "concat of rows": (lambda x, y: x.builder.concat([x, y], 1), (FULL, ROW)),
    "concat of columns": (lambda x, y: x.builder.concat([x, y, x], 2), (FULL, COLUMN)),
    "gather": (lambda x, y: x.builder.gather(x, y & 31), ((32, 40), (17,))),
    "gather of int16": (lambda x, y: x.builder.gather(x.cast("int16"), y & 31), ((32, 40), (17,))),
    "matmul": (_matmul, ((1, 20, 64), (1, 33, 64))),
    "batched matmul": (_matmul, ((3, 5, 96), (3, 40, 96))),
    "matmul of one row": (_matmul, ((1, 1, 576), (1, 192, 576))),
    "rotate": (lambda x: (x * 67000).rotate(), (ROTATED,)),
    "rotate a few rows": (lambda x: (x * 67000).rotate(), ((32,),)),
    "rotate 16 bits": (lambda x: x.clamp(-(2**15), 2**15 - 1).rotate(), (ROTATED,)),
    "rotate what was widened": (
        lambda x: (x * 32).cast("int16").cast("int32").rotate(),
        (ROTATED,),
    ),
    "rotate and keep": (lambda x: where(x.greater(0), x.rotate(), x), (ROTATED,)),
    "rotate a choice": (lambda x, y: where(x.greater(y), x, y).rotate() + x, (ROTATED, ROTATED)),
    "rotate twice": (lambda x: x.rotate().rotate().reshape(30, 64), (ROTATED,)),
    "maximum of a rotation": (lambda x: x.rotate().reduce_max(3), (ROTATED,)),
    "rotate a slice": (lambda x: x.slice((0, 1, 1, 0), (2, 2, 4, 32)).rotate(), (ROTATED,)),
    "slice of a rotation": (lambda x: x.rotate().slice((0, 1, 1, 2), (2, 2, 4, 9)), (ROTATED,)),
    "a chain": (lambda x, y: ((x + y).round_shift(2) * y).maximum(x) - 1, (FULL, FULL)),
    **{
        f"reduce_max {axis}": (lambda x, axis=axis: x.reduce_max(axis), (FULL,))
        for axis in range(3)
    },
    **{
        f"reduce_sum {axis}": (lambda x, axis=axis: x.reduce_sum(axis), (FULL,))
        for axis in range(3)
    },
    "reduce_max of a long row": (lambda x: x.reduce_max(1), ((2, 1536),)),
    "reduce_sum of a long row": (lambda x: x.reduce_sum(1), ((2, 1536),)),
    **{
        f"transpose {order}": (lambda x, order=order: x.transpose(*order), (FULL,))
        for order in itertools.permutations(range(3))
    },
    "transpose of four axes": (lambda x: x.transpose(0, 2, 3, 1), ((2, 3, 5, 7),)),
}


def given_inputs(program: Trace, arrays: list[Array]) -> list[Array]:
    """The inputs that Vela keeps: those that the program uses."""
    used = {a.id for node in program.live_nodes() for a in node.args} | {
        node.id for node in program.outputs
    }
    return [array for array, node in zip(arrays, program.inputs, strict=True) if node.id in used]


@pytest.mark.parametrize("accelerator", SIZES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_one_operation(name: str, accelerator: str) -> None:
    function, shapes = OPERATIONS[name]
    rng = np.random.default_rng(len(name))
    arrays = [rng.integers(-1000, 1000, shape).astype(np.int32) for shape in shapes]
    numpy, recorded = NumpyBuilder(), VelaBuilder()
    expected = [function(*(numpy.tensor(a) for a in arrays)).data]
    recorded.output(function(*(recorded.input(a.shape, "int32") for a in arrays)))
    program = serialise_for_vela(recorded.trace)
    assert_same(expected, run_reference_model(program, arrays))
    assert_same(expected, run_compiled(program, arrays, accelerator))


def run_case(name: str, case: Case, accelerator: str) -> None:
    """One case of an op: numpy's result and that of the command stream."""
    program, _ = trace(OPS[name], [to_spec(v) for v in case.values], case.attributes)
    inputs = given_inputs(program, flatten(tuple(case.values)))
    expected = flatten(evaluate(OPS[name], case.values, case.attributes))
    assert_same(expected, run_compiled(serialise_for_vela(program), inputs, accelerator))


@pytest.mark.parametrize(
    ("number", "name", "case"), [(k, *p.values) for k, p in enumerate(PARAMETERS)]
)
def test_every_case_of_every_op(number: int, name: str, case: Case) -> None:
    run_case(name, case, SIZES[number % len(SIZES)])
