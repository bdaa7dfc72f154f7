# SPDX-License-Identifier: Apache-2.0
"""The cache gives the same data sets without reading, and never those of something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gsqc.data.load
from gsqc.data import DataOptions, Dataset, load_split
from gsqc.data.token_cache import TokenCache
from tests.data.small_data import jsonl, make_tokenizer

TOKENIZER = make_tokenizer()


def said(datasets: tuple[Dataset, Dataset | None]) -> Any:
    """All that two data sets hold."""
    return [
        (vars(replace(d, sequences=[])), [(p.tokens.tolist(), p.counted.tolist()) for p in pieces])
        for d in datasets
        if d is not None
        for pieces in [d.sequences.pieces]  # type: ignore[attr-defined]
    ]


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    folder = tmp_path / "data"
    folder.mkdir()
    records = [{"prompt": f"p{k}", "completion": "c" * k, "id": k} for k in range(9)]
    for name in ("train", "valid", "test"):
        jsonl(folder / f"{name}.jsonl", *records)
    return DataOptions((folder,))


def refuse(*_: Any) -> Any:
    raise AssertionError("the data was read")


@pytest.mark.parametrize("validation", [None, "0.3"])
def test_a_second_start_reads_no_data(
    tmp_path: Path, options: DataOptions, monkeypatch: pytest.MonkeyPatch, validation: str | None
) -> None:
    options = replace(options, validation=validation)
    cache = TokenCache(tmp_path / "cache")
    first = load_split(options, TOKENIZER, 8, cache=cache)
    assert not cache.path.exists()
    cache.save()
    assert said(first) == said(load_split(options, TOKENIZER, 8))
    monkeypatch.setattr(gsqc.data.load, "read_corpus", refuse)
    again = load_split(options, TOKENIZER, 8, cache=TokenCache(cache.path))
    assert said(again) == said(first)


def test_a_damaged_or_foreign_cache_is_made_anew(tmp_path: Path, options: DataOptions) -> None:
    cache = TokenCache(tmp_path / "cache")
    right = said(load_split(options, TOKENIZER, 8, cache=cache))
    cache.save()
    whole = cache.path.read_bytes()
    for at in range(0, len(whole), 37):
        cache.path.write_bytes(whole[:at])
        assert said(load_split(options, TOKENIZER, 8, cache=cache)) == right
    for bad in (b"counts", b"tokens.0", b"record_lengths", b"unused_keys", b"U8"):
        assert bad in whole
        cache.path.write_bytes(whole.replace(bad, b"x" * len(bad)))
        assert said(load_split(options, TOKENIZER, 8, cache=cache)) == right
    for at in range(0, len(whole), 41):  # a changed token, count or length
        cache.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert said(load_split(options, TOKENIZER, 8, cache=cache)) == right
    cache.path.unlink()
    cache.path.symlink_to(options.data[0] / "train.jsonl")
    cache.save()
    assert cache.path.read_bytes() == whole
    assert not cache.path.is_symlink()


def test_another_run_has_another_key(tmp_path: Path, options: DataOptions) -> None:
    cache = TokenCache(tmp_path / "cache")
    load_split(options, TOKENIZER, 8, cache=cache)
    cache.save()
    other = make_tokenizer(bos=True)
    changed = [
        (options, TOKENIZER, 9),
        (replace(options, mask_prompt=False), TOKENIZER, 8),
        (options, other, 8),
        (replace(options, validation="0.3"), TOKENIZER, 8),
    ]
    for given in changed:
        assert said(load_split(*given, cache=cache)) == said(load_split(*given))
    (options.data[0] / "valid.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert said(load_split(options, TOKENIZER, 8, cache=cache)) == said(
        load_split(options, TOKENIZER, 8)
    )
