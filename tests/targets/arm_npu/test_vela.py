# SPDX-License-Identifier: Apache-2.0
"""Vela's search for places in SRAM: where it finds none, it is told of less."""

from __future__ import annotations

import pytest

from gsqc.errors import TargetError
from gsqc.targets.arm_npu import vela
from gsqc.targets.arm_npu.accelerators import NpuOptions
from gsqc.targets.arm_npu.builder import VelaBuilder, serialise_for_vela
from gsqc.targets.arm_npu.vela import VelaOutput, run_vela
from tests.targets.arm_npu.compiling import needs_npu

pytestmark = needs_npu


def _crowded(tensors: int) -> bytes:
    """A program that holds this many tensors of 64 KiB, all at once."""
    builder = VelaBuilder()
    x = builder.input((128, 128), "int32")
    held = [x.reduce_sum(1) + (x << k).abs() for k in range(tensors)]
    while len(held) > 1:
        held = [*held[2:], held[0].mulr30(held[-1]) + held[1]]
    builder.output(held[0])
    return serialise_for_vela(builder.trace)


def test_less_is_tried_until_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    real, tried = vela._run, []

    def run(name: str, program: bytes, options: NpuOptions, seconds: int | None) -> VelaOutput:
        tried.append((options.sram_kib, seconds))
        if options.sram_kib is None or options.sram_kib > 700:
            raise vela._NoPlacementError(None if options.sram_kib else 1000 << 10)
        return real(name, program, options, seconds)

    monkeypatch.setattr(vela, "_run", run)
    output = run_vela("f", _crowded(12), NpuOptions(sram_kib=1000))
    assert tried == [(kib, vela.SEARCH_SECONDS) for kib in (1000, 875, 750, 625)]
    assert (
        max(output.compiled.scratch_bytes.values()) > 0
        and output.summary["sram_memory_used"] <= 625
    )
    tried.clear()
    run_vela("f", _crowded(3), NpuOptions())
    assert [kib for kib, _ in tried] == [None, 875, 750, 625]


def test_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> VelaOutput:
        raise vela._NoPlacementError(1 << 20)

    monkeypatch.setattr(vela, "_run", run)
    with pytest.raises(TargetError, match="finds no place for the tensors of f"):
        run_vela("f", b"", NpuOptions())


def test_the_search_is_stopped_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Vela that never ends."""
    monkeypatch.setattr(
        vela, "_VELA", vela._VELA.replace("from ethosu", "while True: pass\nfrom ethosu")
    )
    with pytest.raises(vela._NoPlacementError):
        vela._run("f", _crowded(2), NpuOptions(sram_kib=64), 1)
