# SPDX-License-Identifier: Apache-2.0
"""What each pass does to a small model: the parts of the printed step that it changed, as a text.

python -m pytest tests/passes/test_goldens.py --force-regen accepts a change.
"""

from __future__ import annotations

from typing import Any

import pytest

from gsqc.adapters.lora import Lora
from gsqc.compiler.pipeline import PIPELINE, format_step, run_pipeline, sections
from gsqc.passes import scores
from gsqc.passes.step import Pass, Step
from tests.toy import toy_step
from tests.toy_graph import Sizes

SIZES = Sizes(
    tokens=8, hidden=32, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=32, vocabulary=40
)
"""Two key-value heads, so that attention is split. Two layers, so that one runs forward again."""


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """By the pass's name."""
    found: dict[str, str] = {}
    before: dict[str, str] = {}

    def note(one: Pass, step: Step) -> None:
        nonlocal before
        now = sections(step)
        found[one.name] = format_step({k: v for k, v in now.items() if before.get(k) != v})
        before = now

    adapter = Lora(rank=2, alpha=4, linears=("q",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "SCORES_BYTES", 0)
        run_pipeline(
            toy_step(SIZES, adapter=adapter, recompute="blocks", prompt_chunk=1), after=note
        )
    return found


@pytest.mark.parametrize("name", [one.name for one in PIPELINE])
def test_what_a_pass_changes(name: str, texts: dict[str, str], file_regression: Any) -> None:
    assert texts[name], "a pass that changes nothing"
    file_regression.check(texts[name], basename=name)
