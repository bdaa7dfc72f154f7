# SPDX-License-Identifier: Apache-2.0
"""make_images: the images of a data set become a file of integers, seen once by a model's tower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsqc.bundle.image_file import ImageRows, ImagesMaker, image_file
from gsqc.data.image_records import find_images
from gsqc.errors import DataError
from gsqc.files.writing import write_result
from gsqc.models.codes import encode_row16
from gsqc.models.vision import VisionTower

MOST_BYTES = 8 << 30
"""Of the rows of a file, which are held in memory until it is written."""


@dataclass(frozen=True)
class ImagesMade:
    """What is in a new file of images.

    named       paths in the data
    images      different images: two paths may have the same bytes
    rows        of all images
    most_rows   of one image
    size_bytes  of the rows
    """

    maker: ImagesMaker
    named: int
    images: int
    rows: int
    most_rows: int
    size_bytes: int


def make_images(
    model: str, data: Sequence[Path], output: Path, watch: Callable[[int, int], object]
) -> ImagesMade:
    """Write the images of `data` as the model in the directory `model` sees them.

    `watch` is called after each image with their number so far and that of all. Raises ModelError,
    DataError, OptionError and FileError. Nothing is written then.
    """
    named = find_images(data)
    tower = VisionTower(model)
    images: dict[str, ImageRows] = {}
    size = 0
    for number, image in enumerate(named, 1):
        content, sha256 = image.read()
        if sha256 not in images:
            rows, tokens = tower.see(content, image.name)
            arrays = encode_row16(rows).arrays
            codes, exponents = arrays["codes"], arrays["exponents"].reshape(-1)
            images[sha256] = ImageRows(codes, exponents, tokens)
            size += codes.nbytes
            if size > MOST_BYTES:
                raise DataError(
                    f"the rows of {len(images)} images are more than {MOST_BYTES >> 30} GiB",
                    "give a part of the data",
                )
        watch(number, len(named))
    maker = ImagesMaker(
        tower.name, tower.model_type, tower.sha256(), tower.width, tower.placeholder
    )
    write_result(output, image_file(maker, images))
    counts = [len(image.codes) for image in images.values()]
    return ImagesMade(maker, len(named), len(images), sum(counts), max(counts), size)
