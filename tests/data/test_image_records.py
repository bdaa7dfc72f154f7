# SPDX-License-Identifier: Apache-2.0
"""The images that records name: which they are, and that no file elsewhere is opened."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gsqc.data.image_records import MOST_IMAGE_BYTES, NamedImage, find_images, split_images
from gsqc.errors import DataError

USER = {
    "role": "user",
    "content": [
        {"type": "image", "image": "c.png"},
        {"type": "image"},
        {"type": "image", "path": "d.png"},
        {"type": "text", "text": "what?"},
    ],
}


def write(folder: Path, *records: Any, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ({"image": "a.png", "text": "t"}, ["a.png"]),
        ({"images": ["a.png", "sub/b.png"], "prompt": "p"}, ["a.png", "sub/b.png"]),
        # The part without a name is the record's own image, in the order of the text.
        (
            {"image": "a.png", "messages": [USER, {"role": "assistant", "content": "cat"}]},
            ["c.png", "a.png", "d.png"],
        ),
        ({"images": ["a.png"], "prompt": [USER], "completion": []}, ["c.png", "a.png", "d.png"]),
        ({"image": None, "images": [], "text": "t"}, []),
        ({"text": "t"}, []),
    ],
)
def test_the_images_of_a_record(record: Any, names: list[str]) -> None:
    assert split_images(record, "")[0] == names


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ([], "not a JSON object"),
        ({"image": 3}, "not named by a path"),
        ({"image": ""}, "not named by a path"),
        ({"images": "a.png"}, "images is not a list"),
        ({"images": [{"bytes": "…"}]}, "not named by a path"),
        ({"messages": [{"content": [{"type": "image_url"}]}]}, "fetches nothing"),
        ({"messages": [USER]}, "the record names none for it"),
    ],
)
def test_images_that_are_no_paths(record: Any, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"data.jsonl:2: .*{text}"):
        find_images([write(tmp_path, {"text": "t"}, record)])


def test_each_path_once_in_the_order_of_the_records(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    lines = write(tmp_path, {"image": "b.png"}, {"images": ["a.png", "b.png"]})
    array = tmp_path / "sub" / "more.json"
    array.write_text(json.dumps([{"image": "a.png"}]))
    packed = tmp_path / "z.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"image": "z.png"}\n'))
    found = find_images([lines, array, packed])
    assert [(image.root, image.name, image.where) for image in found] == [
        (tmp_path, "b.png", "data.jsonl:1"),
        (tmp_path, "a.png", "data.jsonl:2"),
        (tmp_path / "sub", "a.png", "more.json record 1"),
        (tmp_path, "z.png", "z.jsonl.gz:1"),
    ]


def test_data_that_gives_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no record of the data has an image"):
        find_images([write(tmp_path, {"text": "t"})])
    with pytest.raises(DataError, match=r"notes.txt: images are read from records"):
        find_images([write(tmp_path, "t", name="notes.txt")])
    (tmp_path / "bad.jsonl").write_text('{"image": "a.png"}\n{')
    with pytest.raises(DataError, match=r"bad.jsonl:2: not JSON"):
        find_images([tmp_path / "bad.jsonl"])
    with pytest.raises(DataError, match=r"one.json record 1: not a JSON object"):
        find_images([write(tmp_path, {"image": "a.png"}, name="one.json")])


def test_the_bytes_and_their_hash(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(b"pixels")
    wanted = b"pixels", hashlib.sha256(b"pixels").hexdigest()
    assert NamedImage("x", tmp_path, "sub/a.png").read() == wanted
    (tmp_path / "link.png").symlink_to("sub/a.png")  # it stays below
    assert NamedImage("x", tmp_path, "link.png").read() == wanted


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("../secret.png", "no path below"),
        ("sub/../../secret.png", "no path below"),
        ("{root}/secret.png", "no path below"),
        ("a\\..\\b.png", "no path below"),
        ("a\0.png", "no path below"),
        ("https://a.example/b.png", "fetches nothing"),
        ("data:image/png;base64,AA", "fetches nothing"),
        ("out.png", "leads out of the data's directory by a link"),
        ("folder/secret.png", "leads out of the data's directory by a link"),
        ("absent.png", "cannot be read: No such file"),
        ("fifo", "it is a FIFO, not a plain file"),
        ("sub", "it is a directory, not a plain file"),
        ("large.png", "at most 64 are read"),
        ("x" * 300, "cannot be read: File name too long"),
    ],
)
def test_a_strangers_paths_open_no_other_file(name: str, text: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "out.png").symlink_to("../secret.png")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    with (root / "large.png").open("wb") as file:
        file.truncate(MOST_IMAGE_BYTES + 1)
    with pytest.raises(DataError, match=text) as raised:
        NamedImage("data.jsonl:7", root, name.format(root=tmp_path)).read()
    assert str(raised.value).startswith("data.jsonl:7: the image ")
    assert "\n" not in str(raised.value)
