# SPDX-License-Identifier: Apache-2.0
"""place_images: rows of images in the stream, in the place of tokens that no table has.

Tokens from V on are those of images: V + k stands for row k of the images of a sequence.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gsqc.numerics.formats import Row
from gsqc.numerics.operators.builder import Builder, Tensor, where
from gsqc.numerics.ops.primitives import store_row
from gsqc.numerics.ops.quantise import random_row
from gsqc.numerics.ops.registry import Case, Kind, cases, op

_MORE_BITS = 8
"""Between Row-16 and Row-24."""


@op(Kind.ROW)
def text_tokens(b: Builder, tokens: Tensor, *, vocabulary: int) -> Tensor:
    """tokens int32 [T, 1] -> those of the table, in [0, V): the last one for an image."""
    return tokens.minimum(vocabulary - 1)


@op(Kind.ROW)
def image_places(b: Builder, tokens: Tensor, *, vocabulary: int, rows: int) -> Tensor:
    """tokens int32 [T, 1] -> the rows of images that they stand for, in [0, rows): 0 for a text."""
    return (tokens - vocabulary).clamp(0, rows - 1)


@op(Kind.LAYOUT)
def take_images(b: Builder, places: Tensor, images: Row) -> Row:
    """places int32 [T] in [0, N), images Row-16 [N, n] -> those rows, Row-16 [T, n]."""
    return Row(b.gather(images.m, places), b.gather(images.e, places), images.bits)


@op(Kind.ROW)
def choose_rows(b: Builder, x: Row, rows: Row, tokens: Tensor, *, vocabulary: int) -> Row:
    """x Row-24 [T, n], rows Row-16 [T, n], tokens int32 [T, 1] -> Row-24 [T, n], exact.

    Row t is rows[t] where tokens[t] ≥ V, and x[t] elsewhere.
    """
    is_image = tokens.greater(vocabulary - 1)
    m, e = rows.mantissa << _MORE_BITS, rows.e - _MORE_BITS
    return store_row(where(is_image, m, x.mantissa), where(is_image, e, x.e), x.bits)


@cases(text_tokens)
def _text_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("some of images", [_TOKENS], {"vocabulary": 50})


@cases(image_places)
def _place_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("some of images", [_TOKENS], {"vocabulary": 50, "rows": 4})


@cases(take_images)
def _take_cases(rng: np.random.Generator) -> Iterator[Case]:
    places = np.array([0, 3, 3, 1, 0, 0], np.int32)
    yield Case("two groups", [places, random_row(rng, (4, 64), 16)])


@cases(choose_rows)
def _choose_cases(rng: np.random.Generator) -> Iterator[Case]:
    for name, width in (("two groups", 64), ("ragged", 40)):
        x, rows = random_row(rng, (6, width), 24), random_row(rng, (6, width), 16)
        yield Case(name, [x, rows, _TOKENS], {"vocabulary": 50})


_TOKENS = np.array([0, 49, 50, 53, 7, 51], np.int32).reshape(6, 1)
