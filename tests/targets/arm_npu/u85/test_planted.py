# SPDX-License-Identifier: Apache-2.0
"""A wrong interpreter and a wrong command stream are found: what the other tests are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gsqc.errors import CommandStreamError
from gsqc.targets.arm_npu.builder import VelaBuilder, serialise_for_vela
from gsqc.targets.arm_npu.u85 import arithmetic, execute
from gsqc.targets.arm_npu.u85.registers import CMD1, REGISTERS, ElementwiseMode, Rounding, Transpose
from gsqc.targets.arm_npu.u85.run import Compiled, run_command_stream
from tests.numerics.ops.test_exact import PARAMETERS
from tests.targets.arm_npu.compiling import Array, compile_with_vela, needs_npu
from tests.targets.arm_npu.u85.test_operations import run_case

pytestmark = needs_npu
CASES = PARAMETERS[::4]


def _no_rounding(x: Array, amount: Array | int, rounding: Rounding) -> Array:
    return x >> np.asarray(amount)


def _round_half_away(x: Array, amount: Array | int, rounding: Rounding) -> Array:
    n = np.asarray(amount, np.int64)
    if rounding == Rounding.TRUNCATE_TO_LOWER:
        return x >> n
    return np.sign(x) * ((np.abs(x) + np.where(n > 0, 1 << np.maximum(n - 1, 0), 0)) >> n)


def _without_last_product(x: Array, w: Array) -> Array:
    return np.asarray(x[..., :-1] @ w[:, :-1].T)


def _true_is_one(condition: Array) -> Array:
    return condition.astype(np.int64)


_ERRORS: dict[str, tuple[object, str, object]] = {
    "no rounding": (arithmetic, "shift_right", _no_rounding),
    "rounding half away from zero": (arithmetic, "shift_right", _round_half_away),
    "a product left out": (execute, "dot", _without_last_product),
    "a comparison gives 1": (arithmetic, "_mask", _true_is_one),
    "a table without interpolation": (
        execute,
        "lookup_s16_s32",
        lambda x, table: (
            np.frombuffer(table, "<i2").reshape(-1, 2)[(x >> 7) + 256, 0].astype(np.int64) << 7
        ),
    ),
}


def _failures() -> int:
    count = 0
    for parameter in CASES:
        name, case = parameter.values
        try:
            run_case(name, case, "ethos-u85-256")
        except (AssertionError, CommandStreamError):
            count += 1
    return count


@pytest.mark.parametrize("error", _ERRORS)
def test_an_error_in_the_interpreter_is_found(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, wrong = _ERRORS[error]
    monkeypatch.setattr(module, name, wrong)
    assert _failures() >= 3


@pytest.mark.parametrize(
    "mode", [ElementwiseMode.SUB, ElementwiseMode.MAX, ElementwiseMode.AND_NOT]
)
def test_an_error_in_an_operation_is_found(
    mode: ElementwiseMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = arithmetic.BINARY[mode]
    monkeypatch.setitem(arithmetic.BINARY, mode, lambda x, y: right(x, y) ^ 1)
    assert _failures() >= 3


def test_an_error_in_a_transpose_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(execute._AXES, Transpose.HCW, (0, 1, 2))
    assert _failures() >= 3


def test_nothing_is_found_without_an_error() -> None:
    assert _failures() == 0


# --------------------------------------------------------------------------------------------------
# wrong streams


def _program() -> tuple[Compiled, list[Array]]:
    """(x + y), shifted right by 3 with rounding, times y, through memory and chaining buffers."""
    rng = np.random.default_rng(5)
    arrays = [rng.integers(-1000, 1000, (9, 40)).astype(np.int32) for _ in range(2)]
    builder = VelaBuilder()
    x, y = (builder.input(a.shape, "int32") for a in arrays)
    builder.output((x + y).round_shift(3) * y, (x + y).reduce_sum(1))
    return compile_with_vela(serialise_for_vela(builder.trace), "ethos-u85-256"), arrays


def _altered(words: tuple[int, ...], change: Callable[[str, int], int]) -> list[tuple[int, ...]]:
    """The streams in which one register's parameter, or its payload, has another value."""
    streams, at = [], 0
    while at < len(words):
        name, value = (
            REGISTERS.get(words[at] & 0xFFFF, ""),
            words[at : at + (2 if words[at] & CMD1 else 1)],
        )
        changed = (*value[:-1], change(name, value[-1]))
        if changed != value:
            streams.append((*words[:at], *changed, *words[at + len(value) :]))
        at += len(value)
    return streams


_CHANGES: dict[str, Callable[[str, int], int]] = {
    "a base address": lambda name, last: (
        last + 4 if name in ("IFM_BASE0", "IFM2_BASE0", "OFM_BASE0") else last
    ),
    "a stride": lambda name, last: last + 4 if name == "IFM_STRIDE_X" else last,
    "the depth": lambda name, last: (
        last - (1 << 16) if name == "OFM_DEPTH_M1" and last >> 16 else last
    ),
    "a scalar": lambda name, last: last + 1 if name == "OP_SCALAR" else last,
    "the region": lambda name, last: (
        last ^ 3 << 16 if name in ("IFM_REGION", "OFM_REGION") else last
    ),
    "an operation": lambda name, last: last ^ 3 << 16 if last & 0xFFFF == 6 and not name else last,
}


@pytest.mark.parametrize("change", _CHANGES)
def test_a_wrong_command_stream_is_found(change: str) -> None:
    """Each alteration of one register changes the result or is an error, unless a later setting
    repairs it.
    """
    program, arrays = _program()
    expected = run_command_stream(program, arrays)
    streams = _altered(program.commands, _CHANGES[change])
    found = 0
    for commands in streams:
        try:
            got = run_command_stream(replace(program, commands=commands), arrays)
            found += any(not np.array_equal(e, g) for e, g in zip(expected, got, strict=True))
        except CommandStreamError:
            found += 1
    assert streams and found >= max(1, len(streams) - 1)


def test_another_rounding_in_the_stream_is_found() -> None:
    program, arrays = _program()
    expected = run_command_stream(program, arrays)
    number = {name: word for word, name in REGISTERS.items()}["OFM_SCALE"]
    words = list(program.commands)
    places = [
        k
        for k, word in enumerate(words)
        if word & 0xFFFF == number and word >> 29 == Rounding.NATURAL
    ]
    results = []
    for place in places:
        wrong = [
            *words[:place],
            words[place] & 0x1FFFFFFF | Rounding.TRUNCATE_TO_LOWER << 29,
            *words[place + 1 :],
        ]
        results.append(run_command_stream(replace(program, commands=tuple(wrong)), arrays))
    assert any(not np.array_equal(e, g) for r in results for e, g in zip(expected, r, strict=True))
