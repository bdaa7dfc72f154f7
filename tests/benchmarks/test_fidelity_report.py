# SPDX-License-Identifier: Apache-2.0
"""Results are kept line by line and read again. The table compares only what was run beside
float32. FOLDOC's articles become records.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fidelity.report import draw, grouped, table
from benchmarks.fidelity.results import Result, Results, Run
from benchmarks.fidelity.texts import definitions, find_foldoc, text_files

RUN = Run("bierce", "1e-3", 1, "float32", 2, 128, 5)
FLOAT = Result(RUN, 4.2, 4.0, [4.5, 4.0], 4874, 12.5, 1, "a machine")


def result(side: str, order: int, after: float, before: float | None = None) -> Result:
    run = replace(RUN, side=side, order=order)
    return replace(FLOAT, run=run, after=after, before=before, losses=[4.5, after])


def test_results_grow_and_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.jsonl"
    kept = Results(file)
    assert not kept.by_run
    for r in (FLOAT, result("4-5-5", 1, 4.1)):
        kept.add(r)
    again = Results(file)
    assert again.by_run == kept.by_run and list(again.by_run) == [RUN, replace(RUN, side="4-5-5")]
    assert json.loads(file.read_text().splitlines()[0])["side"] == "float32"


def test_the_untouched_side_is_measured_once(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    results.add(FLOAT)
    assert results.before(replace(RUN, order=3, rate="5e-4")) == 4.2
    assert results.before(replace(RUN, text="foldoc")) is None
    assert results.before(replace(RUN, side="bf16")) is None


def test_a_row_has_only_orders_that_float32_has() -> None:
    results = [FLOAT, result("4-5-5", 1, 4.2), result("4-5-5", 2, 9.0), result("bf16", 2, 4.0)]
    (rows,) = grouped(results).values()
    assert [row.side for row in rows] == ["float32", "4-5-5"]
    assert rows[1].mean == pytest.approx(5.0) and rows[1].worst_step == pytest.approx(0.2)


def test_the_table_shows_what_was_not_run() -> None:
    second = replace(FLOAT, run=replace(RUN, order=2))
    lines = table([FLOAT, second, result("4-5-5", 2, 4.1, 4.4)]).splitlines()
    assert lines[-2:] == [
        "| float32 | 32 | 4.2000 | 4.0000 · 4.0000 |  |  |  |",
        "| gsqc 4-5-5 | 5.25 | 4.4000 | – · 4.1000 | – · +2.50 | +2.50 | +0.10 |",
    ]


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    draw([FLOAT], tmp_path / "none.png")
    draw([FLOAT, result("mxfp4", 1, 4.3)], tmp_path / "one.png")
    assert [f.name for f in tmp_path.iterdir()] == ["one.png"]


ARTICLES = """00-database-short

   FOLDOC

bit bucket

   <jargon> {The} universal data sink, the mythical receptacle used to catch bits when they
   fall off the end of a register during a shift instruction, or so it is said.

   (1996-02-22)

short

   <jargon> Too few words.

many

   1. A word with several numbered senses is left out, though it has more than twenty words in
   all, as one sees here.

"""


def test_foldocs_articles_become_records() -> None:
    assert definitions(ARTICLES) == [
        {
            "prompt": "Define bit bucket as a dictionary of computing does.",
            "completion": "The universal data sink, the mythical receptacle used to catch bits "
            "when they fall off the end of a register during a shift instruction, or so it is "
            "said.",
        }
    ]


def test_foldoc_is_named_when_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"apt-get install dict-foldoc.*--download"):
        find_foldoc(tmp_path / "foldoc.dict.dz", download=False)
    with gzip.open(tmp_path / "foldoc.dict.dz", "wt") as file:
        file.write(ARTICLES)
    files = text_files("foldoc", tmp_path / "out", tmp_path / "foldoc.dict.dz")
    lines = [file.read_text().splitlines() for file in files.values()]
    assert [len(part) for part in lines] == [1, 0]
