# SPDX-License-Identifier: Apache-2.0
"""Examples become batches of texts: each call of a tokenizer takes time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gsqc.data.encode import Encoder, Prepared
from gsqc.data.examples import Example
from gsqc.data.problems import Problems
from gsqc.data.seen import Seen

_BATCH_CHARACTERS = 1 << 18
"""Characters that are tokenised at once."""


def batches(
    records: Iterable[tuple[str, Example | Seen]], encoder: Encoder, problems: Problems
) -> Iterator[list[Prepared]]:
    """The examples in order, some at a time. What is wrong with others is added to `problems`.

    records  examples behind their places
    """
    batch: list[Prepared] = []
    characters = 0
    for where, example in records:
        try:
            prepared = encoder.prepare(example)
        except ValueError as error:
            problems.note(where, error)
            continue
        batch.append(prepared)
        characters += sum(map(len, prepared.texts))
        if characters > _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
