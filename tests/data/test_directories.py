# SPDX-License-Identifier: Apache-2.0
"""Of a directory, what is trained on, what is held out, and what is told as not read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gsqc.data.directories import RUN_FILES, DataFile, look_into
from gsqc.data.files import data_digest, find_files
from gsqc.data.names import split_of
from gsqc.errors import DataError
from gsqc.runtime import store


def put(folder: Path, *names: str) -> Path:
    """Files with these names, and their names in them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def names(files: list[DataFile]) -> list[str]:
    return [file.name for file in files]


@pytest.mark.parametrize(
    ("given", "train", "held_out"),
    [
        ("train.jsonl valid.jsonl test.jsonl", "train.jsonl", "valid.jsonl"),  # mlx-lm
        (
            "README.md data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet "
            "data/validation-00000-of-00001.parquet data/test-00000-of-00001.parquet",
            "data/train-00000-of-00002.parquet data/train-00001-of-00002.parquet",
            "data/validation-00000-of-00001.parquet",
        ),  # Hugging Face
        ("train/a.csv dev/a.csv test/a.csv", "train/a.csv", "dev/a.csv"),
        ("crates_train.json crates_val.json", "crates_train.json", "crates_val.json"),
        ("a.ndjson b.jsonl.gz test.jsonl", "a.ndjson b.jsonl.gz", ""),
        ("train.jsonl more.jsonl", "train.jsonl", ""),
        ("README.md data.json LICENSE dataset_infos.json", "data.json", ""),
        ("a/README.md b/README.md", "a/README.md b/README.md", ""),  # notes, not cards
        ("test.md x.md", "test.md x.md", ""),
        ("wiki.train.txt wiki.valid.txt", "wiki.train.txt", "wiki.valid.txt"),
        (
            "latest.jsonl developer.jsonl contest/a.jsonl",
            "contest/a.jsonl developer.jsonl latest.jsonl",
            "",
        ),
    ],
)
def test_splits_by_name(tmp_path: Path, given: str, train: str, held_out: str) -> None:
    found = look_into(put(tmp_path, *given.split()), [])
    assert (names(found.train), names(found.held_out)) == (train.split(), held_out.split())
    read = {*train.split(), *held_out.split()}
    assert {unread.name for unread in found.unread} == set(given.split()) - read


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("a.md x/b.csv", r"text files and record files \(a.md, x/b.csv\)"),
        ("README.md x/train.arrow", r"of a kind that gsqc does not read \(x/train.arrow\)"),
        ("a.jsonl.zst", "of a kind that gsqc does not read"),
        ("a.parquet.gz", "of a kind that gsqc does not read"),
        ("x/test.jsonl", "no file to train on: x/test.jsonl is of the split test"),
        ("train.csv train.jsonl", r"several forms \(train.csv, train.jsonl\)"),
        ("a.png", "no file of records or text"),
        ("config.json config.toml", "it is one of the runs of gsqc"),
    ],
)
def test_directories_that_are_refused(tmp_path: Path, given: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        look_into(put(tmp_path, *given.split()), [])


def test_runs_bundles_and_models_are_no_data(tmp_path: Path) -> None:
    put(tmp_path, "notes.md", "runs/a/config.json", "runs/a/log.jsonl", "runs/a/notes.md")
    put(tmp_path / "b.gsqc", "manifest.json", "plan.json", "tokenizer.json")
    put(tmp_path / "m", "config.json", "tokenizer.json", "README.md")
    found = look_into(tmp_path, [])
    assert names(found.train) == ["notes.md"]
    assert [(u.name, u.kind) for u in found.unread] == [
        ("b.gsqc", "bundles"),
        ("m", "models"),
        ("runs/a", "runs of gsqc"),
    ]
    assert set(RUN_FILES) == set(store.FILES) - {store.CONFIG}


def test_links_that_stay_are_followed_once(tmp_path: Path) -> None:
    folder = put(tmp_path / "data", ".store/one", "b.jsonl")
    put(tmp_path, "outside.jsonl", "given.jsonl")
    (folder / "a.jsonl").symlink_to(".store/one")
    (folder / "again.jsonl").symlink_to("b.jsonl")
    (folder / "out.jsonl").symlink_to("../outside.jsonl")
    (folder / "given.jsonl").symlink_to("../given.jsonl")
    (folder / "gone.jsonl").symlink_to("nowhere")
    (folder / "loop").symlink_to(".")
    found = look_into(folder, {(tmp_path / "given.jsonl").resolve()})
    assert names(found.train) == ["a.jsonl", "b.jsonl", "given.jsonl"]
    assert [(u.name, u.kind) for u in found.unread] == [
        ("again.jsonl", "links to files read already"),
        ("gone.jsonl", "links"),
        ("loop", "links"),
        ("out.jsonl", "links"),
    ]
    only = put(tmp_path / "only", "README.txt.png")
    (only / "a.jsonl").symlink_to("../outside.jsonl")
    with pytest.raises(DataError, match=r"a.jsonl is a link that leads out of it"):
        look_into(only, [])


def test_the_digest_has_relative_names(tmp_path: Path) -> None:
    put(tmp_path / "one", "a/x.jsonl", "b/x.jsonl")
    lines = [f"{n} {hashlib.sha256(n.encode()).hexdigest()}\n" for n in ("a/x.jsonl", "b/x.jsonl")]
    assert data_digest([tmp_path / "one"]) == hashlib.sha256("".join(lines).encode()).hexdigest()
    put(tmp_path / "mlx", "train.jsonl", "valid.jsonl")
    assert data_digest([tmp_path / "mlx"]) == hashlib.sha256(b"train.jsonl").hexdigest()
    assert find_files([tmp_path / "mlx"]).held_out[0].name == "valid.jsonl"


def test_a_files_own_name_comes_before_its_folders() -> None:
    assert split_of(Path("test/train.jsonl")) == "train"
    assert split_of(Path("train/x/dev/a.jsonl")) == "validation"
    assert split_of(Path("constraint.jsonl")) is None
