# SPDX-License-Identifier: Apache-2.0
"""Records in memory are data: they train as a file with the same records, and a run keeps them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gsqc
import gsqc.training.open_run
from gsqc.cli.main import main
from gsqc.errors import DataError, OptionError, RunError
from tests.runtime.small_bundle import FakeSession, write_bundle

RECORDS = [{"prompt": f"p{k}", "completion": f"c{k}"} for k in range(5)]
OTHERS = [{"prompt": "x", "completion": "y"}]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    monkeypatch.setattr("gsqc.runtime.open_session.Session", FakeSession)
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "small.gsqc")
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(r) + "\n" for r in RECORDS))
    return tmp_path


def train(data: Any, run: str, **options: Any) -> gsqc.TrainResult:
    return gsqc.train("small.gsqc", data, run=run, progress=False, **{"steps": 4, **options})


def pandas_like(records: list[dict[str, Any]]) -> Any:
    """What the two methods of a DataFrame give that are used. A missing value is NaN there."""
    columns = list(dict.fromkeys(key for record in records for key in record))
    rows = [{key: record.get(key, float("nan")) for key in columns} for record in records]
    return SimpleNamespace(columns=columns, to_dict=lambda kind: {"records": rows}[kind])


SHAPES: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "list": lambda records: records,
    "tuple": tuple,
    "generator": iter,
    "array": lambda records: np.array(records, object),
    "pandas": pandas_like,
    "polars": lambda records: SimpleNamespace(to_dicts=lambda: records, columns=["prompt"]),
    "pyarrow": lambda records: SimpleNamespace(to_pylist=lambda: records),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_records_train_as_their_file_does(place: Path, shape: str) -> None:
    wanted = train("notes.jsonl", "file", validation="notes.jsonl")
    made = SHAPES[shape]
    given = train(made(RECORDS), "memory", validation=made(RECORDS))
    assert given.digest == wanted.digest
    assert given.best == wanted.best


def test_a_row_of_a_table_may_lack_keys(place: Path) -> None:
    alpaca = [
        {"instruction": "a", "output": "b"},
        {"instruction": "a", "input": "i", "output": "b"},
    ]
    shutil.rmtree(place / "small.gsqc")
    write_bundle(place / "small.gsqc", sequence_length=256)  # Alpaca's prompt is long
    (place / "alpaca.jsonl").write_text("".join(json.dumps(r) + "\n" for r in alpaca))
    wanted = train("alpaca.jsonl", "file").digest
    assert train(pandas_like(alpaca), "pandas").digest == wanted
    assert train([{"input": None, **alpaca[0]}, alpaca[1]], "arrow").digest == wanted


def test_the_rows_of_datasets_and_pandas_are_records(place: Path) -> None:
    wanted = train("notes.jsonl", "file").digest
    datasets, pandas = pytest.importorskip("datasets"), pytest.importorskip("pandas")
    table = datasets.Dataset.from_list(RECORDS)
    assert train(table, "datasets").digest == wanted
    assert train(table.data.table, "arrow").digest == wanted
    assert train(pandas.DataFrame(RECORDS), "pandas").digest == wanted
    with pytest.raises(OptionError) as error:
        train(datasets.DatasetDict(train=table), "splits")
    assert 'data["train"]' in error.value.hint


def test_the_command_line_goes_on_with_a_run_of_records(place: Path) -> None:
    wanted = train("notes.jsonl", "file", steps=8, validation="notes.jsonl").digest
    train(RECORDS, "run", steps=4, validation=RECORDS)
    assert main(["train", "--resume", "run", "--steps", "8"]) == 0
    assert train(RECORDS, "run", steps=8, validation=RECORDS).digest == wanted
    kept = sorted(path.name.partition("-")[0] for path in (place / "run").glob("*.jsonl"))
    assert kept == ["data", "log.jsonl", "validation"]


def test_a_run_goes_on_with_its_own_records_only(place: Path) -> None:
    train(RECORDS, "run", steps=2)
    before = sorted(path.name for path in (place / "run").iterdir())
    with pytest.raises(RunError, match="data_sha256"):
        train(OTHERS, "run", steps=4)
    assert sorted(path.name for path in (place / "run").iterdir()) == before
    assert train(RECORDS, "run", steps=4).step == 4


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"validation": "absent"}, {"schedule": "x"}])
def test_a_run_that_does_not_begin_leaves_nothing(place: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(gsqc.GsqcError):
        train(RECORDS, "run", **wrong)
    assert not (place / "run").exists()


def test_an_error_names_the_record(place: Path) -> None:
    with pytest.raises(
        DataError, match=r"data-[0-9a-f]{12}\.jsonl:2: the record has no completion"
    ):
        train([*OTHERS, {"prompt": "x"}], "run")
    with pytest.raises(DataError, match="record 2 of data has a value that JSON cannot hold"):
        train([*OTHERS, {"text": {1, 2}}], "run")
    with pytest.raises(OptionError, match="data is a dict and no list of records"):
        train(OTHERS[0], "run")


def test_an_evaluation_takes_records_and_tells_what_was_cut(place: Path) -> None:
    wanted = gsqc.evaluate("small.gsqc", "notes.jsonl")
    assert gsqc.evaluate("small.gsqc", RECORDS) == wanted
    assert gsqc.evaluate("small.gsqc", RECORDS, limit=2).tokens == wanted.tokens * 2 // 5
    long = [{"prompt": "a", "completion": "b" * 50}]
    (note,) = gsqc.evaluate("small.gsqc", long).notes
    # a, newline, 50 letters and the end are 53 tokens, of which 16 + 1 fit.
    assert note == "1 records were cut to the sequence length (36 tokens lost)"
