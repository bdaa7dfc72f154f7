# SPDX-License-Identifier: Apache-2.0
"""Files of images as a language model reads them: rows of integers, as wide as its embedding.

A vision tower and its projector made the rows, in floats, once. From then on they are data. The
file is a safetensors file:

rows.codes      int16 [R, width]  the rows of all images, Row-16
rows.exponents  int8 [R]          one exponent for each row
row_counts      int32 [I]         rows of each image
tokens          int32 [K]         what stands in a text for the images, one after the other
token_counts    int32 [I]         tokens of each image

Among an image's tokens the placeholder stands once for each of its rows, in their order.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.json_text import read_json
from gsqc.bundle.plan import TensorPlan
from gsqc.bundle.tensor_file import MappedTensors, check_tensors, tensor_file
from gsqc.errors import DataError
from gsqc.files.reading import open_file
from gsqc.numerics.formats import largest

FORMAT = "gsqc-images-1"
IMAGE_ROWS = "image_rows"
"""The input with the rows of a sequence's images, of bundles that take images."""
_AGAIN = "write the file again: gsqc images MODEL --data DATA -o FILE"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COUNTS = ("row_counts", "token_counts")
_FIELDS = ("format", "model", "model_type", "vision_sha256", "width", "placeholder", "images")


@dataclass(frozen=True)
class ImageRows:
    """An image as the language model reads it.

    codes      int16 [r, width], mantissas
    exponents  int8 [r]. Row k stands for codes[k] · 2^exponents[k]
    tokens     int32 [n], what stands in a text for the image, with the placeholder r times
    """

    codes: npt.NDArray[np.int16]
    exponents: npt.NDArray[np.int8]
    tokens: npt.NDArray[np.int32]


@dataclass(frozen=True)
class ImagesMaker:
    """What made the rows of a file.

    model          the name of the model
    model_type     its model_type in config.json
    vision_sha256  of the weights of the tower and the projector, as float32
    width          of a row
    placeholder    the token that stands for a row
    """

    model: str
    model_type: str
    vision_sha256: str
    width: int
    placeholder: int


@dataclass(frozen=True)
class ImageFile:
    """The images of a file, by the sha256 of their own files.

    codes, exponents  the rows of all of them, in their order
    """

    maker: ImagesMaker
    images: Mapping[str, ImageRows]
    codes: npt.NDArray[np.int16]
    exponents: npt.NDArray[np.int8]

    def find(self, sha256: str, name: str) -> ImageRows:
        """The rows of an image. DataError, with its name, if the file lacks it."""
        if sha256 not in self.images:
            raise DataError(f"{name} is not among the {len(self.images)} images", _AGAIN)
        return self.images[sha256]


def image_file(maker: ImagesMaker, images: Mapping[str, ImageRows]) -> Iterator[bytes | memoryview]:
    """The content of a file, in pieces. `images` are by the sha256 of their files."""
    parts = list(images.values())
    tensors = {
        "rows.codes": np.concatenate([part.codes for part in parts]),
        "rows.exponents": np.concatenate([part.exponents for part in parts]),
        "row_counts": np.array([len(part.codes) for part in parts], np.int32),
        "tokens": np.concatenate([part.tokens for part in parts]),
        "token_counts": np.array([len(part.tokens) for part in parts], np.int32),
    }
    metadata = {
        "format": FORMAT,
        "model": maker.model,
        "model_type": maker.model_type,
        "vision_sha256": maker.vision_sha256,
        "width": str(maker.width),
        "placeholder": str(maker.placeholder),
        "images": json.dumps(list(images)),
    }
    return tensor_file(tensors, metadata)


def read_images(path: Path) -> ImageFile:
    """The images of a file, as views of the mapped file. Raises DataError if it is damaged."""
    try:
        with open_file(path) as file:
            tensors = MappedTensors(file)
        maker, names = _maker(tensors.metadata)
        images = dict(zip(names, _images(tensors, maker, len(names)), strict=True))
        codes = tensors["rows.codes"].reshape(-1, maker.width)
        return ImageFile(maker, images, codes, tensors["rows.exponents"])
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", _AGAIN) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is no file of images: {error}", _AGAIN) from None


def images_digest(path: Path) -> str:
    """The sha256 of a file of images. DataError if it cannot be read."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", _AGAIN) from None


def _maker(metadata: Mapping[str, str]) -> tuple[ImagesMaker, list[str]]:
    """What made a file, and the hashes of its images. Raises ValueError."""
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is {metadata.get('format', 'not named')}, not {FORMAT}")
    if set(metadata) != set(_FIELDS):
        raise ValueError(f"its header does not have {', '.join(_FIELDS)}")
    names: Any = read_json(metadata["images"].encode())
    if not isinstance(names, list) or not names or not all(map(_is_sha256, names)):
        raise ValueError("its images have no hashes")
    if len(set(names)) != len(names) or not _is_sha256(metadata["vision_sha256"]):
        raise ValueError("a hash is there twice, or is none")
    width, placeholder = (_number(metadata[key]) for key in ("width", "placeholder"))
    if not width:
        raise ValueError("its rows have no width")
    model, kind, sha256 = (metadata[key] for key in ("model", "model_type", "vision_sha256"))
    return ImagesMaker(model, kind, sha256, width, placeholder), names


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("a number of its header is none")
    return int(text)


def _images(tensors: MappedTensors, maker: ImagesMaker, count: int) -> Iterator[ImageRows]:
    """The images in their order. Raises ValueError."""
    check_tensors(tensors, {key: TensorPlan("int32", count) for key in _COUNTS})
    rows, tokens = (_ends(tensors[key]) for key in _COUNTS)
    total = {
        "rows.codes": TensorPlan("int16", rows[-1] * maker.width),
        "rows.exponents": TensorPlan("int8", rows[-1]),
        "tokens": TensorPlan("int32", tokens[-1]),
    }
    check_tensors(tensors, total)
    codes, texts = tensors["rows.codes"].reshape(rows[-1], maker.width), tensors["tokens"]
    if codes.min() < -largest(16) or texts.min() < 0:
        raise ValueError("a code or a token is out of its range")
    for k in range(count):
        row, token = slice(rows[k], rows[k + 1]), slice(tokens[k], tokens[k + 1])
        if int((texts[token] == maker.placeholder).sum()) != rows[k + 1] - rows[k]:
            raise ValueError(f"image {k + 1} has not one placeholder for each row")
        yield ImageRows(codes[row], tensors["rows.exponents"][row], texts[token])


def _ends(counts: npt.NDArray[Any]) -> Sequence[int]:
    """Where each image's part begins, and the end of the last. Raises ValueError."""
    if counts.min() < 1:
        raise ValueError("an image has no rows or no tokens")
    return [0, *np.cumsum(counts, dtype=np.int64).tolist()]
