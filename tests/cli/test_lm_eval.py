# SPDX-License-Identifier: Apache-2.0
"""What gsqc lm-eval refuses before it needs the harness. tests/harness has the rest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.prompted import place, trained
from tests.cli.run_command import Capture, run_text
from tests.runtime.small_bundle import other_state, write_bundle

__all__ = ["place"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--limit", "0"], "--limit 0 is not a whole number from 1 to"),
        (["--fewshot", "-1"], "--fewshot -1 is not a whole number from 0 to"),
        (["--samples"], "--samples needs a file to write to; name one with -o"),
        (["--run", "absent"], "absent"),
        (["--include-path", "absent"], "absent is no directory"),
    ],
)
def test_options_that_make_no_sense(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], told: str
) -> None:
    if "--include-path" in options:
        pytest.importorskip("lm_eval", reason="needs pip install 'gsqc[lm-eval]'")
    monkeypatch.chdir(place)
    code, out, err = run_text(capsys, "lm-eval", "plain.gsqc", "--tasks", "piqa", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_a_task_is_needed(capsys: Capture, place: Path) -> None:
    code, _, err = run_text(capsys, "lm-eval", place / "plain.gsqc")
    assert code == 2 and "tasks" in err


def test_a_run_of_another_bundle_is_refused(capsys: Capture, place: Path) -> None:
    run = trained(place, {"prompt": "a", "completion": "b"})
    other = write_bundle(place / "other.gsqc", state=other_state())
    capsys.readouterr()
    code, _, err = run_text(capsys, "lm-eval", other, "--tasks", "piqa", "--run", run)
    assert (code, err.count("\n")) == (2, 1)
    assert "bundle" in err


def test_without_the_harness_the_command_says_how_to_get_it(
    capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    code, out, err = run_text(capsys, "lm-eval", place / "plain.gsqc", "--tasks", "piqa")
    assert (code, out) == (2, "")
    assert err == (
        "error: lm-evaluation-harness is not installed (lm_eval); pip install 'gsqc[lm-eval]'\n"
    )
