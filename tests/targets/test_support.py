# SPDX-License-Identifier: Apache-2.0
"""The table of ops and targets, made by lowering a case of each op on each target: a lowering that
is lost changes it, and so does an op or a target that is added.

`python -m tests.targets.test_support` writes the table anew.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.numerics.ops.registry import OPS
from gsqc.targets import all_targets
from gsqc.targets.interface import Target
from gsqc.targets.support import EXACT, op_support

TABLE = Path(__file__).with_suffix("") / "support.txt"
TOOLS = {"llvm": "tvm", "arm_npu": "tosa_serializer", "tosa": "tosa_serializer"}
"""The Python module that a folder's code generator needs, where it needs one."""

Table = dict[str, dict[str, str]]


@cache
def golden() -> Table:
    """The table by op and target: words are separated by two spaces or more. A target whose folder
    was deleted keeps its column.
    """
    head, *lines = ([w.strip() for w in x.split("  ") if w.strip()] for x in TABLE.open())
    return {words[0]: dict(zip(head[1:], words[1:], strict=True)) for words in lines}


@cache
def lowered() -> Table:
    """What the targets that are here do today."""
    return op_support(all_targets())


def _text(table: Table) -> str:
    names = list(next(iter(table.values())))
    rows = [["op", *names], *([op, *how.values()] for op, how in table.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(w.ljust(n) for w, n in zip(r, widths, strict=True)).rstrip() for r in rows)
    return "\n".join(lines) + "\n"


def test_the_table_has_every_op_and_every_target_that_is_here() -> None:
    assert list(golden()) == sorted(OPS)
    assert {target.name for target in all_targets()} <= set(next(iter(golden().values())))


@pytest.mark.parametrize("target", all_targets(), ids=lambda target: target.name)
def test_what_a_target_lowers(target: Target) -> None:
    name, folder = target.name, type(target).__module__.split(".")[-2]
    if folder in TOOLS:
        pytest.importorskip(TOOLS[folder])
    now = {op: how[name] for op, how in lowered().items()}
    before = {op: how[name] for op, how in golden().items() if op in now}
    changed = [f"{op}: was {was!r}, is {now[op]!r}" for op, was in before.items() if now[op] != was]
    assert not changed, f"{name} lowers other ops than support.txt says:\n" + "\n".join(changed)


def test_nothing_is_missing() -> None:
    """A target that lacks an op is allowed, as long as someone has said so here."""
    lacking = {op for op, how in golden().items() if any("missing" in h for h in how.values())}
    assert lacking == set()
    assert sum(how["numpy"] == EXACT for how in golden().values()) > 30


if __name__ == "__main__":
    TABLE.write_text(_text(lowered()))
