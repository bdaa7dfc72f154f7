# SPDX-License-Identifier: Apache-2.0
"""The demo of the README trains SmolLM2-135M to the losses, the text and the digest that it had."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.golden.demo import FILE, SCRIPT, facts_of, run_demo
from tests.golden.files import difference


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    expected = {"demo.txt": FILE.read_text(encoding="utf-8")}
    changes = difference(expected, {"demo.txt": run_demo(tmp_path)})
    if changes:
        pytest.fail(
            f"{changes}\n\nIf the change is meant, make golden-demo accepts it.", pytrace=False
        )


def test_the_run_of_the_file_has_learned() -> None:
    """A run that learns nothing would be reproduced as exactly as a good one."""
    facts = FILE.read_text(encoding="utf-8")
    before, after = (float(loss) for loss in re.findall(r"^loss (\S+)   perplexity", facts, re.M))
    assert after < before - 0.3
    assert re.search(r"^state saved in OUT/run, digest [0-9a-f]{16}$", facts, re.M)


def test_the_file_has_the_titles_of_the_script() -> None:
    """The demo takes minutes. A title that was reworded is told at once here."""
    said = re.findall(r'^say "(.*)"$', SCRIPT.read_text(encoding="utf-8"), re.M)
    assert re.findall(r"^== (.*)$", FILE.read_text(encoding="utf-8"), re.M) == said


def test_speed_and_place_are_no_facts() -> None:
    printed = "wrote /x/a.gsqc for x86-64 in 21 s\nstep    5  loss 3.6324  10 tokens/s\n"
    assert facts_of(printed, "/x") == "wrote OUT/a.gsqc\nstep    5  loss 3.6324\n"
