# SPDX-License-Identifier: Apache-2.0
"""The page of a real run shows what was measured, and leaves the run unchanged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import gsqc.cli.report
from gsqc.bundle.bundle import Bundle
from gsqc.check.sequences import random_sequences
from gsqc.cli.main import main
from gsqc.export.adapter import read_adapter
from gsqc.report.measure import (
    adapter_operands,
    base_exponents,
    memory_parts,
    stored_as,
    time_by_op,
)
from gsqc.runtime.session import Session
from tests.end_to_end.test_session import RATE
from tests.report.test_run_page import check_page, entry


@pytest.fixture(scope="module")
def run(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run"
    session = Session(bundle, path)
    result = session.step(random_sequences(session.bundle, 1, 0), RATE)
    session.save()
    assert session.store is not None
    line = entry(1, loss=result.loss, digest=result.digest)
    (path / "log.jsonl").write_text(json.dumps(line) + "\n")
    return path


def hashes(run: Path) -> dict[str, str]:
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in run.iterdir()
        if p.name != "report.html"
    }


def test_a_page_of_a_run(bundle: Path, run: Path) -> None:
    before = hashes(run)
    assert (
        main(["report", str(run), "--bundle", str(bundle), "--sample", "ab", "--max-tokens", "3"])
        == 0
    )
    text = check_page((run / "report.html").read_text()).text
    for title in (
        "Memory by part",
        "Time by op",
        "Adapter: shared exponents",
        "Base: exponents",
        "Before and after",
    ):
        assert title in text
    assert "gse_matmul" in text
    assert hashes(run) == before
    assert main(["report", str(run), "--bundle", str(bundle), "--no-measure"]) == 0
    assert "Time by op" not in (run / "report.html").read_text()


@pytest.mark.needs_target("llvm")
def test_a_strangers_code_does_not_run_for_a_run_that_names_it(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # a record that does not know the code
    monkeypatch.delattr(gsqc.cli.report, "Session")
    assert main(["report", str(run)]) == 0
    text = check_page((run / "report.html").read_text()).text
    assert "Adapter: shared exponents" in text
    assert "Time by op" not in text
    assert "runs the bundle's code" in capsys.readouterr().out
    assert main(["report", str(run), "--sample", "ab"]) == 2
    assert "--bundle" in capsys.readouterr().err


def test_what_is_measured(bundle: Path, run: Path) -> None:
    opened = Bundle.open(bundle)
    parts = dict(memory_parts(opened))
    beside = ("base (", "caches", "sums of")
    planned = sum(size for name, size in parts.items() if not name.startswith(beside))
    assert planned == opened.plan.peak_bytes
    assert {name: kind for name, kind, *_ in stored_as(opened)}["mlp.up_proj.weight"] == "nf4"
    assert {bits for _, kind, bits, _ in stored_as(opened) if kind == "nf4"} == {"4.38", "4.75"}
    exponents, operand_bits = adapter_operands(read_adapter(opened, run), 8)
    assert len(exponents) == len(operand_bits) == len(base_exponents(opened)) == 2
    for histogram in (*exponents, *operand_bits, *base_exponents(opened)):
        assert sum(histogram.values()) == pytest.approx(1)
    assert max(max(h) for h in operand_bits) == 7
    seconds = dict(time_by_op(Session(opened)))
    assert seconds["gse_matmul"] > 0
    assert np.isfinite(sum(seconds.values()))
