# SPDX-License-Identifier: Apache-2.0
"""Files of images: what is written is read, and a damaged file is one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gsqc.bundle.image_file import ImageRows, ImagesMaker, image_file, read_images
from gsqc.errors import DataError

MAKER = ImagesMaker("tiny", "llava", "0" * 64, 3, 9)
NAMES = ("a" * 64, "b" * 64)


def image(rows: int, seed: int) -> ImageRows:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-32767, 32768, (rows, 3)).astype(np.int16)
    tokens = np.array([5, *[9] * rows, 6], np.int32)
    return ImageRows(codes, rng.integers(-20, 20, rows).astype(np.int8), tokens)


IMAGES = {NAMES[0]: image(2, 0), NAMES[1]: image(3, 1)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "photos.safetensors"
    path.write_bytes(b"".join(image_file(MAKER, IMAGES)))
    return path


def test_what_is_written_is_read(file: Path) -> None:
    found = read_images(file)
    assert found.maker == MAKER
    assert list(found.images) == list(NAMES)
    for name, wanted in IMAGES.items():
        for field in ("codes", "exponents", "tokens"):
            assert np.array_equal(getattr(found.find(name, "x"), field), getattr(wanted, field))
    with pytest.raises(DataError, match=r"photos/a.png is not among the 2 images"):
        found.find("c" * 64, "photos/a.png")


def test_the_safetensors_library_reads_it(file: Path) -> None:
    tensors = load_file(file)
    assert {name: (t.shape, t.dtype.name) for name, t in tensors.items()} == {
        "rows.codes": ((5, 3), "int16"),
        "rows.exponents": ((5,), "int8"),
        "row_counts": ((2,), "int32"),
        "tokens": ((9,), "int32"),
        "token_counts": ((2,), "int32"),
    }


def metadata() -> dict[str, str]:
    return {
        "format": "gsqc-images-1",
        "model": "tiny",
        "model_type": "llava",
        "vision_sha256": "0" * 64,
        "width": "3",
        "placeholder": "9",
        "images": f'["{NAMES[0]}", "{NAMES[1]}"]',
    }


def changed(key: str, value: str) -> Callable[[dict[str, Any], dict[str, str]], None]:
    return lambda tensors, said: said.update({key: value})


def put(name: str, index: int, value: int) -> Callable[[dict[str, Any], dict[str, str]], None]:
    def change(tensors: dict[str, Any], said: dict[str, str]) -> None:
        tensors[name].reshape(-1)[index] = value

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (changed("format", "gsqc-images-2"), "its format is gsqc-images-2"),
        (changed("further", "1"), "its header does not have"),
        (changed("images", "[]"), "its images have no hashes"),
        (changed("images", '["a"]'), "its images have no hashes"),
        (changed("images", "{"), "is no file of images"),
        (changed("images", f'["{NAMES[0]}", "{NAMES[0]}"]'), "a hash is there twice"),
        (changed("images", f'["{NAMES[0]}"]'), "row_counts has 2 elements"),
        (changed("vision_sha256", "x"), "or is none"),
        (changed("width", "-3"), "a number of its header is none"),
        (changed("width", "4"), "rows.codes has 15 elements"),
        (changed("placeholder", "5"), "image 1 has not one placeholder for each row"),
        (put("rows.codes", 0, -32768), "a code or a token is out of its range"),
        (put("tokens", 0, -1), "a code or a token is out of its range"),
        (put("tokens", 1, 6), "image 1 has not one placeholder for each row"),
        (put("row_counts", 0, 0), "an image has no rows or no tokens"),
        (put("row_counts", 0, 2**30), "rows.codes has 15 elements"),
        (put("token_counts", 1, 4), "tokens has 9 elements"),
        (lambda tensors, said: tensors.pop("tokens"), "it has no tensor tokens"),
    ],
)
def test_a_damaged_file_is_one_line(change: Any, text: str, file: Path) -> None:
    tensors, said = dict(load_file(file)), metadata()
    save_file(tensors, file, said)
    assert read_images(file).maker == MAKER  # the library's own order of the tensors is read too
    change(tensors, said)
    save_file(tensors, file, said)
    with pytest.raises(DataError, match=text) as raised:
        read_images(file)
    assert str(raised.value).startswith("photos.safetensors is no file of images: ")


def test_what_is_no_file_of_images(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    for content in (b"", b"text", whole[:-1], whole[:40]):
        file.write_bytes(content)
        with pytest.raises(DataError, match="is no file of images"):
            read_images(file)
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="cannot read"):
            read_images(place)


def test_a_file_without_width_has_no_rows(file: Path) -> None:
    maker = replace(MAKER, width=0)
    images = {n: replace(i, codes=i.codes[:, :0]) for n, i in IMAGES.items()}
    file.write_bytes(b"".join(image_file(maker, images)))
    with pytest.raises(DataError, match="its rows have no width"):
        read_images(file)
