# SPDX-License-Identifier: Apache-2.0
"""The matrix of architectures: its cheap stages on families that are captured, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

import benchmarks.architectures.__main__ as program
from benchmarks.architectures.claims import differences, missing
from benchmarks.architectures.encoders import ENCODERS
from benchmarks.architectures.families import BY_NAME, FAMILIES, Family
from benchmarks.architectures.stages import LOGITS_LIMIT, Row, run_family
from benchmarks.architectures.table import table
from gsqc.models.families import ENCODERS as LISTED_ENCODERS
from gsqc.models.families import FAMILIES as LISTED
from gsqc.models.families import TEXT_PARTS
from gsqc.models.readers.wrappers import WRAPPERS

CAPTURED = (
    *("llama-wide-heads", "llama-rope-llama3", "llama-rope-yarn", "mistral-window-wide"),
    *(listed.type for listed in LISTED if listed.compiles),
)
"""Every family that `gsqc models` calls compiled has a row of its name."""
REFUSED = ("mamba2", "lfm2", "diffllama")


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(FAMILIES) >= 60


@pytest.mark.parametrize("name", CAPTURED)
def test_a_captured_family_has_the_logits_of_transformers(name: str, tmp_path: Path) -> None:
    row = run_family(BY_NAME[name], tmp_path)
    assert row.state == "captured", row.error
    assert row.logits is not None
    assert row.logits <= LOGITS_LIMIT
    assert row.is_right


@pytest.mark.parametrize("family", ENCODERS, ids=lambda family: family.name)
def test_a_classifier_has_the_logits_of_transformers(family: Family, tmp_path: Path) -> None:
    row = run_family(family, tmp_path)
    assert row.is_right, row.error
    assert (row.task, differences([row])) == ("classify", [])


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_family_has_its_sentence(name: str, tmp_path: Path) -> None:
    row = run_family(BY_NAME[name], tmp_path)
    assert row.state == "refused"
    assert "\nhint: " in row.error
    assert differences([row]) == []
    assert row.logits is None


def test_wrong_logits_are_no_success() -> None:
    assert not Row("a", "a", logits=2 * LOGITS_LIMIT).is_right
    assert not Row("a", "a").is_right


def test_what_failed_behind_a_bundle_is_a_fault() -> None:
    """A refusal is none. An assertion is, and so are digests that differ."""
    assert not Row("a", "a", logits=0.0, further={"gguf": "refused: no"}).is_fault
    assert Row("a", "a", logits=0.0, further={"compile": "failed: AssertionError: b"}).is_fault
    assert Row("a", "a", logits=0.0, further={"digests": "differ: c"}).is_fault


def test_rows_are_kept_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    made: list[str] = []

    def fake(family: Any, folder: Path, *, whole: bool) -> Row:
        made.append(family.name)
        return Row(family.name, family.type, logits=1.0 if family.name == "olmo2" else 1e-7)

    monkeypatch.setattr(program, "run_family", fake)
    arguments = ["program", "--output", str(tmp_path), "--only", "llama"]
    monkeypatch.setattr("sys.argv", arguments)
    assert program.main() == program.main() == 0
    assert made == ["llama"]
    monkeypatch.setattr("sys.argv", [*arguments[:3], "--only", "olmo2"])
    assert program.main() == 1
    assert "wrong: olmo2" in capsys.readouterr().out
    assert "| llama | captured | 1e-07 |" in (tmp_path / "table.md").read_text()


def test_the_table_tells_a_refusal_in_one_line() -> None:
    rows = [Row("a", "a", "refused", "it uses:\n  b at c.py:1\nhint: d"), Row("e", "e", logits=0.0)]
    text = table(rows)
    assert "| a | refused: it uses:; b at c.py:1 |  |" in text
    assert "2 rows: 1 captured, 1 refused. Logits right: 1." in text


def test_the_list_and_the_matrix_have_the_same_families() -> None:
    types = [listed.type for listed in LISTED]
    assert len(set(types)) == len(types)
    assert {family.type for family in FAMILIES} == set(types)
    assert {family.type for family in ENCODERS} == {e.type for e in LISTED_ENCODERS}
    assert tuple(WRAPPERS) == TEXT_PARTS


@pytest.mark.slow
def test_the_list_says_what_the_matrix_finds(tmp_path: Path) -> None:
    """Half a minute: every row."""
    rows = [run_family(family, tmp_path / family.name) for family in FAMILIES]
    assert differences(rows) == []
    assert [row.name for row in rows if row.state == "failed"] == []
    assert [row.name for row in rows if row.state == "captured" and not row.is_right] == []


def test_a_disagreement_is_told() -> None:
    error = "the model has what gsqc does not compile: fused q, k and v, blur (Blurs)\n  a\nhint: b"
    assert missing(Row("a", "a", "refused", error)) == ["fused q, k and v", "blur"]
    assert differences([Row("x", "x")]) == ["x is not listed"]
    assert differences([Row("llama", "llama", "refused", error)])[0].startswith(
        "llama is listed as compiled, and refused: the model has"
    )
    assert differences([Row("m", "mamba")]) == ["mamba is listed as refused, and m is captured"]
    assert differences([Row("m", "mamba", "refused", error)]) == [
        "mamba also lacks fused q, k and v, blur"
    ]
    broken = Row("olmo2", "olmo2", further={"compile": "yes", "digests": "differ: x"})
    assert differences([broken]) == ["olmo2: digests is differ: x"]
