# SPDX-License-Identifier: Apache-2.0
"""The images of a run: a file of rows, and the numbers by which tokens name the rows.

In pieces of tokens, the vocabulary's size + k stands for row k of the whole file. A sequence that a
session takes has its own rows beside it, and its tokens count from the first of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gsqc.bundle.image_file import read_images
from gsqc.data.directories import DataFile
from gsqc.data.examples import Document, Example
from gsqc.data.image_records import NamedImage, records_of, split_images
from gsqc.data.problems import Problems
from gsqc.data.records import RecordReader
from gsqc.data.sequences import Int32, TokenSequence
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError, OptionError


@dataclass(frozen=True)
class Seen:
    """An example, whose texts have a placeholder for each image, and the images' tokens."""

    example: Example
    images: tuple[Int32, ...]


class ImageTable:
    """The images of a file, for a bundle.

    placeholder  the token that a text has for an image
    text         its text

    space        the rows of images that a sequence of the bundle may have, and their width

    Raises DataError if the file is damaged or of another model, OptionError if the bundle takes no
    images.
    """

    def __init__(
        self, path: Path, tokenizer: Tokenizer, vocabulary: int, space: tuple[int, int]
    ) -> None:
        self._file = read_images(path)
        self._vocabulary, (self.most, width) = vocabulary, space
        maker = self._file.maker
        if not self.most:
            raise OptionError(
                "the bundle takes no images", "compile the model with --image-rows, say 1024"
            )
        if maker.width != width or maker.placeholder >= vocabulary:
            raise DataError(
                f"{path.name} has rows of {maker.width} for {maker.model}, "
                f"and the bundle takes rows of {width}",
                "make the file with gsqc images and the bundle's own model",
            )
        self.placeholder = maker.placeholder
        self.text = tokenizer.decode([self.placeholder], special=True)
        counts = [len(image.codes) for image in self._file.images.values()]
        starts = np.cumsum([0, *counts[:-1]]).tolist()
        self._starts = dict(zip(self._file.images, starts, strict=True))

    def tokens_of(self, image: NamedImage) -> Int32:
        """The tokens that stand for an image, int32. Raises DataError."""
        _, sha256 = image.read()
        found = self._file.find(sha256, image.name)
        tokens = found.tokens.copy()
        rows = self._vocabulary + self._starts[sha256] + np.arange(len(found.codes))
        tokens[tokens == self.placeholder] = rows
        return tokens

    def expand(self, ids: bytes, counted: bytes, images: Sequence[Int32]) -> tuple[bytes, bytes]:
        """Tokens with those of images in place of the placeholders. An image has no loss.

        Raises DataError if there are not as many placeholders as images, or too many rows.
        """
        tokens, learned = np.frombuffer(ids, np.int32), np.frombuffer(counted, np.uint8)
        places = np.flatnonzero(tokens == self.placeholder)
        if len(places) != len(images):
            raise DataError(
                f"a record has {len(images)} images and {len(places)} tokens {self.text}",
                "the bundle's tokenizer is not that of the model that made the images",
            )
        rows = sum(int((image >= self._vocabulary).sum()) for image in images)
        if rows > self.most:
            raise DataError(
                f"a record has {rows} rows of images, and the bundle takes {self.most}",
                f"compile with --image-rows {rows}",
            )
        parts, flags, start = [], [], 0
        for place, image in zip(places.tolist(), images, strict=True):
            parts += [tokens[start:place], image]
            flags += [learned[start:place], np.zeros(len(image), np.uint8)]
            start = place + 1
        joined, marks = np.concatenate([*parts, tokens[start:]]), [*flags, learned[start:]]
        return joined.astype(np.int32).tobytes(), np.concatenate(marks).tobytes()

    def with_rows(self, sequence: TokenSequence) -> TokenSequence:
        """A sequence with the rows of its images beside it."""
        # No image has a loss, so what stands in its place as a label counts for nothing.
        labels = np.where(sequence.labels < self._vocabulary, sequence.labels, 0).astype(np.int32)
        is_row = sequence.tokens >= self._vocabulary
        if not is_row.any():
            return replace(sequence, labels=labels)
        named, local = np.unique(sequence.tokens[is_row], return_inverse=True)
        tokens = sequence.tokens.copy()
        tokens[is_row] = self._vocabulary + local
        at = named - self._vocabulary
        rows = (self._file.codes[at], self._file.exponents[at])
        return replace(sequence, tokens=tokens, labels=labels, image_rows=rows)


def read_seen(file: DataFile, problems: Problems, images: ImageTable) -> Iterator[tuple[str, Seen]]:
    """The records of a JSONL or JSON file behind their places, with the tokens of their images.

    Malformed records are added to `problems`. Raises DataError.
    """
    reader = RecordReader(problems.unused)
    for where, record in records_of(file):
        try:
            names, plain = split_images(record, images.text)
            example = reader.read(plain)
            if isinstance(example, Document) and names:
                raise ValueError("a text with images: write a prompt and a completion, or messages")
        except (ValueError, RecursionError) as error:
            problems.note(where, error)
            continue
        root = file.path.parent
        yield (
            where,
            Seen(example, tuple(images.tokens_of(NamedImage(where, root, name)) for name in names)),
        )
