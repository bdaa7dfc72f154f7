# SPDX-License-Identifier: Apache-2.0
"""Which files a data set has, and what is too large, too long, or of no use."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

import gsqc.data.content
from gsqc.data.content import Content
from gsqc.data.directories import DataFile, Unread
from gsqc.data.files import data_digest, find_files
from gsqc.data.sequences import Dataset
from gsqc.errors import DataError


def content(path: Path) -> Content:
    return Content(DataFile(path, path.name))


def put(folder: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_a_directory_of_notes_is_walked_in_the_order_of_paths(tmp_path: Path) -> None:
    put(tmp_path, b_md=b"b", a__z_txt=b"z", a__B_md=b"B", c_png=b"", config_json=b"{}")
    put(tmp_path / ".obsidian", x_md=b"hidden")
    (tmp_path / ".hidden.md").write_bytes(b"hidden")
    (tmp_path / "link.md").symlink_to(tmp_path / "b.md")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = find_files([tmp_path])
    assert [file.name for file in found.train] == ["a/B.md", "a/z.txt", "b.md"]
    assert found.unread == [
        Unread("c.png", "files of other kinds"),
        Unread("config.json", "cards and settings"),
        Unread("link.md", "links to files read already"),
        Unread("loop", "links"),
    ]


def test_files_keep_the_order_they_are_given_in(tmp_path: Path) -> None:
    put(tmp_path, b_jsonl=b"", a_txt=b"")
    found = find_files([tmp_path / "b.jsonl", tmp_path / "a.txt"])
    assert [file.path for file in found.train] == [tmp_path / "b.jsonl", tmp_path / "a.txt"]


@pytest.mark.parametrize(
    ("files", "given", "reason"),
    [
        ({}, ".", "has no file of records or text"),
        ({"a_png": b""}, ".", "has no file of records or text"),
        ({"x__a_md": b"", "b_jsonl": b""}, ".", r"text files and record files \(x/a.md, b.jsonl\)"),
        (
            {"a_tsv": b""},
            "a.tsv",
            "a.tsv is neither .jsonl, .ndjson, .json, .csv, .parquet nor .txt",
        ),
        ({}, "absent", "no such data file"),
    ],
)
def test_what_is_no_data(tmp_path: Path, files: dict[str, bytes], given: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        find_files([put(tmp_path, **files) / given])


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.md", "a"])
def test_a_pipe_is_no_file(tmp_path: Path, name: str) -> None:
    """Opening it would wait for ever."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="it is a FIFO, not a plain file"):
        find_files([tmp_path / name])


def test_a_directory_with_pipes_and_links_says_what_it_leaves_out(tmp_path: Path) -> None:
    put(tmp_path, a_md=b"a", b__c_md=b"c")
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "link.md").symlink_to(tmp_path / "a.md")
    (tmp_path / "folder").symlink_to(tmp_path / "b")
    found = find_files([tmp_path])
    assert [file.path for file in found.train] == [tmp_path / "a.md", tmp_path / "b" / "c.md"]
    assert [unread.name for unread in found.unread] == ["folder", "link.md", "pipe.md"]
    assert Dataset(unread=found.unread).report() == (
        "not read: links (1, first folder); "
        "not read: links to files read already (1, first link.md); "
        "not read: special files (1, first pipe.md)"
    )


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\udc80"])
def test_a_name_that_no_file_has(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name, tmp_path / f"{name}.jsonl"):
        with pytest.raises(DataError, match="no such data file"):
            find_files([path])


def test_a_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.jsonl")
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match="is not UTF-8"):
        list(content(path).lines())
    assert data_digest([path]) == hashlib.sha256(b"\xff").hexdigest()


def test_too_much_data_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.truncate(600 << 20)
    with pytest.raises(DataError, match="has 600 MiB, gsqc reads at most 512"):
        find_files([tmp_path / "a.jsonl"])


def test_a_line_without_an_end_is_refused_after_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gsqc.data.content, "MAXIMUM_LINE_BYTES", 1 << 20)
    put(tmp_path, a_jsonl=b"{}\n" + b" " * (1 << 20) + b"{}")
    with pytest.raises(DataError, match=r"a.jsonl:2: a line longer than 1 MiB"):
        list(content(tmp_path / "a.jsonl").lines())


def test_text_that_is_not_utf8_is_named_by_line(tmp_path: Path) -> None:
    put(tmp_path, a_jsonl=b"{}\n\n{\xff}", a_md=b"a\nb\xff", utf16_md="a".encode("utf-16"))
    for name, reason in (
        ("a.jsonl", r"a.jsonl:3 is not UTF-8 \(byte 1\)"),
        ("a.md", "byte 3 in line 2"),
    ):
        with pytest.raises(DataError, match=reason):
            list(content(tmp_path / name).lines()) if name.endswith("l") else content(
                tmp_path / name
            ).text()
    with pytest.raises(DataError, match=r"utf16\.md is UTF-16, not UTF-8"):
        content(tmp_path / "utf16.md").text()


def test_lines_end_alike_everywhere(tmp_path: Path) -> None:
    put(tmp_path, a_md=b"\xef\xbb\xbfa\r\nb\rc\n")
    assert content(tmp_path / "a.md").text() == "a\nb\nc\n"


def test_the_digest_of_one_file_is_its_sha256_and_of_several_has_their_names(
    tmp_path: Path,
) -> None:
    put(tmp_path, a_md=b"a", b_md=b"b", deep__a_md=b"a")
    assert data_digest([tmp_path / "a.md"]) == hashlib.sha256(b"a").hexdigest()
    whole = data_digest([tmp_path])
    assert whole != data_digest([tmp_path / "a.md", tmp_path / "b.md"])
    (tmp_path / "b.md").write_bytes(b"c")
    assert data_digest([tmp_path]) != whole
