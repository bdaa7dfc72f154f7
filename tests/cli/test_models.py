# SPDX-License-Identifier: Apache-2.0
"""gsqc models: the list for people and for scripts."""

from __future__ import annotations

from gsqc.models.families import ENCODERS, FAMILIES, Proof
from tests.cli.run_command import Capture, run_json, run_text


def test_compiled_families_are_listed_below_their_proof(capsys: Capture) -> None:
    code, out, _ = run_text(capsys, "models")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == f"{Proof.REAL.value}:"
    assert lines[1].startswith("  llama ")
    assert lines[1].endswith(" Llama 1 to 3, TinyLlama, SmolLM2, Falcon 3")
    assert "deepseek_v3" not in out
    refused = sum(not family.compiles for family in (*FAMILIES, *ENCODERS))
    assert f"{refused} families are refused" in out
    assert "the text part is taken: llava" in out


def test_encoders_are_listed_with_their_task(capsys: Capture) -> None:
    _, out, _ = run_text(capsys, "models")
    _, _, encoders = out.partition("with --task classify, ")
    assert "  roberta            RoBERTa\n" in encoders
    assert "  modernbert         ModernBERT\n" in encoders


def test_refused_families_say_what_is_missing(capsys: Capture) -> None:
    _, out, _ = run_text(capsys, "models", "--refused")
    (line,) = [line for line in out.splitlines() if line.startswith("  lfm2 ")]
    assert line.endswith("LFM2  (short convolution)")


def test_scripts_get_every_family(capsys: Capture) -> None:
    code, records = run_json(capsys, "models")
    assert code == 0
    makers, encoders = (
        sorted(r["type"] for r in records if r["task"] == task) for task in ("generate", "classify")
    )
    assert makers == sorted(family.type for family in FAMILIES)
    assert encoders == sorted(family.type for family in ENCODERS)
    assert records[0]["proof"] == "real"
    assert records[0]["compiles"]
