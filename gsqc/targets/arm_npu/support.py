# SPDX-License-Identifier: Apache-2.0
"""The table of docs/arm-npu.md: what each operator becomes in TOSA, and which NPU runs it. The
serialiser and Vela give the answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from gsqc.errors import TargetError
from gsqc.numerics.operators.builder import BITWISE, Tensor
from gsqc.numerics.operators.trace import Trace
from gsqc.targets.arm_npu.accelerators import NpuOptions
from gsqc.targets.arm_npu.builder import VelaBuilder, serialise_for_vela
from gsqc.targets.arm_npu.vela import run_vela
from gsqc.targets.arm_npu.vela_faults import VelaFaults
from gsqc.targets.tosa.serialise import Writer

Example = Callable[[Tensor, Tensor], Tensor]

_BINARY = (
    "add",
    "sub",
    "mul",
    "mulr15",
    "mulr30",
    "minimum",
    "maximum",
    *BITWISE,
    "logical_left_shift",
    "logical_right_shift",
    "arithmetic_right_shift",
    "arithmetic_right_shift_round",
    "greater",
    "equal",
)


def _elementwise(name: str) -> Example:
    return lambda x, y: x.builder.elementwise(name, x, y)


EXAMPLES: dict[str, Example] = {
    **{name: _elementwise(name) for name in _BINARY},
    "abs": lambda x, y: x.abs(),
    "clz": lambda x, y: x.clz(),
    "select": lambda x, y: x.builder.elementwise("select", x.greater(y), x, y),
    "mulc": lambda x, y: x.mulc(2**30 + 1),
    "reduce_max": lambda x, y: x.reduce_max(),
    "reduce_sum": lambda x, y: x.reduce_sum(),
    "rotate": lambda x, y: x.rotate(),
    "rotate 16 bits": lambda x, y: x.cast("int16").cast("int32").rotate(),
    "cast to int16": lambda x, y: x.cast("int16"),
    "cast to int8": lambda x, y: x.cast("int8"),
    "table": lambda x, y: x.builder.table(x.cast("int16"), [0] * 512 + [9]),
    "reshape": lambda x, y: (x + y).reshape(32, 8),
    "transpose": lambda x, y: x.transpose(1, 0),
    "slice": lambda x, y: x.slice((1, 8), (4, 8)),
    "concat": lambda x, y: x.builder.concat([x, y], 1),
    "gather": lambda x, y: x.builder.gather(x, y.slice((0, 0), (8, 1)).reshape(8).clamp(0, 7)),
    "matmul": lambda x, y: x.builder.matmul(
        x.cast("int16").reshape(1, 8, 32), y.cast("int16").reshape(1, 8, 32), 5
    ),
}
"""One program for each operator: two int32 inputs [8, 32]."""

MACHINES = {
    "Ethos-U85": NpuOptions(),
    "Ethos-U65": NpuOptions(
        "ethos-u65-256", system_config="Ethos_U65_High_End", memory_mode="Dedicated_Sram"
    ),
    "Ethos-U55": NpuOptions(
        "ethos-u55-128", system_config="Ethos_U55_High_End_Embedded", memory_mode="Shared_Sram"
    ),
}


def example_trace(example: Example) -> Trace:
    """The program of one example."""
    builder = VelaBuilder()
    builder.output(example(builder.input((8, 32), "int32"), builder.input((8, 32), "int32")))
    return builder.trace


def tosa_operators(trace: Trace) -> Counter[str]:
    """What the serialiser writes for a program."""
    written: Counter[str] = Counter()

    class Counting(Writer):
        def emit(self, operator: str, *args: object) -> tuple[str, tuple[int, ...], str]:
            written[operator] += 1
            return super().emit(operator, *args)  # type: ignore[arg-type]

    Counting(trace, VelaFaults).write()
    return written


def support_table() -> str:
    """Markdown: a row per operator, with its TOSA operators and whether Vela places all of them on
    each NPU.
    """
    lines = [
        f"| operator | TOSA operators | {' | '.join(MACHINES)} |",
        f"|---|---|{'---|' * len(MACHINES)}",
    ]
    for name, example in EXAMPLES.items():
        trace = example_trace(example)
        written = ", ".join(
            f"{count} {op}" if count > 1 else op for op, count in tosa_operators(trace).items()
        )
        # Whether an operator runs on a machine is Vela's to say, so each is compiled for each.
        cells = []
        for options in MACHINES.values():
            try:
                run_vela("example", serialise_for_vela(trace), options)
                cells.append("yes")
            except TargetError:
                cells.append("no")
        lines.append(f"| {name} | {written} | {' | '.join(cells)} |")
    return "\n".join(lines)
