# SPDX-License-Identifier: Apache-2.0
"""Recompute auto: as many blocks kept as the memory allows, and the digests of every choice are
equal.
"""

from __future__ import annotations

from dataclasses import replace

from gsqc.bundle.plan import Plan, SchedulePlan, TensorPlan
from gsqc.passes.choose_recompute import keep_blocks
from gsqc.passes.plan_properties import SLACK

LAYERS = 8
OTHER = 4000
"""Bytes that every choice takes."""


def plan(saved: int) -> tuple[Plan, list[int | None]]:
    """What `auto` chooses where each kept block takes `saved` bytes, and what it asked for."""
    asked: list[int | None] = []

    def schedules(kept: int | None) -> dict[str, SchedulePlan]:
        asked.append(kept)
        return {"train": SchedulePlan({}, saved * (LAYERS - 1 if kept is None else kept), [])}

    state = {"state": {"p": TensorPlan("int8", OTHER)}}
    return keep_blocks(replace(Plan(), buffers=state), "auto", LAYERS, schedules), asked


def test_auto_keeps_as_many_blocks_as_fit() -> None:
    chosen, _ = plan(saved=100)
    assert chosen.peak_bytes == OTHER + 4 * 100 == OTHER * SLACK


def test_auto_keeps_all_where_they_fit_and_none_where_one_is_too_many() -> None:
    chosen, asked = plan(saved=50)
    assert (chosen.peak_bytes, asked) == (OTHER + 50 * (LAYERS - 1), [0, None])
    assert plan(saved=500)[0].peak_bytes == OTHER
