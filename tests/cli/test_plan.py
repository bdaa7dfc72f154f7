# SPDX-License-Identifier: Apache-2.0
"""gsqc plan: what it prints, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gsqc.cli.main import main
from gsqc.training.options import TrainOptions
from tests.cli.run_command import Capture
from tests.compiler.estimate.conftest import deep_model  # noqa: F401
from tests.encoders import encoder_directory

SMALL = ["--seq", "32", "--adapter", "lora:rank=2,alpha=4", "--no-probe"]


def test_text_and_json(
    capsys: Capture,
    deep_model: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = pytest.importorskip("gsqc.compiler.estimate.estimator")
    # Each of the other settings takes a second or two.
    monkeypatch.setattr(settings, "other_settings", lambda options: [options])
    assert main(["plan", str(deep_model), *SMALL, "--memory-mib", "10", "--json"]) == 0
    (record,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert record["fits"] is False
    assert record["step_seconds_measured"] is False
    assert record["lr"] == TrainOptions(1).lr
    assert record["peak_bytes"] > record["planned_peak_bytes"] > 0
    assert [s["recompute"] for s in record["settings"]] == ["blocks"]
    assert main(["plan", str(deep_model), *SMALL, "--memory-mib", "4000"]) == 0
    out = capsys.readouterr().out
    assert "peak memory, about" in out
    assert "not measured here" in out
    assert "learning rate 0.001, unless gsqc train --lr gives another" in out
    assert out.count("fits") == 1


@pytest.mark.parametrize(
    ("bits", "calibrated"), [("4-5-5:w8", True), ("4-6-6", True), ("4-7-7", False)]
)
def test_bits_and_calibration(
    capsys: Capture,
    deep_model: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    bits: str,
    calibrated: bool,
) -> None:
    settings = pytest.importorskip("gsqc.compiler.estimate.estimator")
    monkeypatch.setattr(settings, "other_settings", lambda options: [])
    arguments = ["plan", str(deep_model), *SMALL, "--bits", bits]
    assert main([*arguments, "--json"]) == 0
    (record,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert record["calibrated"] is calibrated
    assert main(arguments) == 0
    assert f"{bits}{', calibrated' if calibrated else ''}, base nf4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["absent"], "there is no model absent"),
        (["absent", "--bits", "3-3-3", "--seq", "0"], "--seq 0"),
        (["absent", "--memory-mib", "0"], "memory-mib"),
    ],
)
def test_errors(capsys: Capture, arguments: list[str], told: str) -> None:
    assert main(["plan", *arguments]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_a_classifier(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = pytest.importorskip("gsqc.compiler.estimate.estimator")
    monkeypatch.setattr(settings, "other_settings", lambda options: [])
    model = str(encoder_directory(tmp_path / "model", "Model"))
    as_classifier = ["--task", "classify", "--labels", "no,yes"]
    assert main(["plan", model, *SMALL, *as_classifier]) == 0
    out = capsys.readouterr().out
    assert "the head begins untrained" in out
    assert "peak memory, about" in out
    assert main(["plan", model, *SMALL]) == 2
    assert "compile it as a classifier of texts, with --task classify" in capsys.readouterr().err
    assert main(["plan", "model.gguf", *SMALL, "--labels", "no,yes"]) == 2
    assert "has a meaning with --task classify alone" in capsys.readouterr().err
