# SPDX-License-Identifier: Apache-2.0
"""read_corpus: the files of a data set become pieces of tokens. What happened is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from gsqc.data.content import Content, is_standard_input
from gsqc.data.control_tokens import ControlTokens
from gsqc.data.csv_reader import read_csv
from gsqc.data.directories import DataFile
from gsqc.data.encode import Convert, Encoded, Encoder, Prepared, Reading, Tokens, chat_renderer
from gsqc.data.examples import Document, Example
from gsqc.data.json_reader import read_array, read_jsonl, read_piped
from gsqc.data.names import TEXT_SUFFIXES, suffix_of
from gsqc.data.parquet_reader import read_parquet
from gsqc.data.piece_store import PieceStore
from gsqc.data.problems import Problems
from gsqc.data.records import LABEL
from gsqc.data.saved_dataset import read_saved_dataset
from gsqc.data.sequences import Dataset
from gsqc.data.text_reader import read_document
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError

_BATCH_CHARACTERS = 1 << 18
"""Characters that are tokenised at once."""
Reader = Callable[[Content, Problems], Iterator[tuple[str, Example]]]
_READERS: dict[str, Reader] = {
    **dict.fromkeys(TEXT_SUFFIXES, read_document),
    ".json": read_array,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


class Progress:
    """Tells how many bytes of all files are read."""

    def __init__(self, total: int, tell: Callable[[int, int], None] | None) -> None:
        self.total, self._tell, self._before = total, tell, 0

    def at(self, position: int) -> None:
        """So many bytes of the present file are read."""
        if self._tell is not None:
            self._tell(min(self._before + position, self.total), self.total)

    def end(self, size: int) -> None:
        """A file of that size is read."""
        self.at(size)
        self._before += size


@dataclass
class Corpus:
    """The pieces of some files, and what was cut of their records."""

    pieces: PieceStore = field(default_factory=PieceStore)
    statistics: Dataset = field(default_factory=Dataset)

    def add(self, example: Example, whole: Encoded, encoder: Encoder) -> None:
        """Cut a record's tokens and count them."""
        statistics, before = self.statistics, len(self.pieces)
        for piece in encoder.cut(example, whole):
            self.pieces.add(piece.ids, piece.counted)
        count = len(whole.counted)
        statistics.record_lengths.append(count)
        statistics.shapes[example.form] = statistics.shapes.get(example.form, 0) + 1
        statistics.shared.add(example)
        if len(self.pieces) == before:
            statistics.skipped_records += 1
        elif not isinstance(example, Document):
            lost = max(count - (encoder.reading.length + 1), 0)
            statistics.truncated_records += lost > 0
            statistics.truncated_tokens += lost

    def tell(self, problems: Problems) -> None:
        """Take over what is only to be told of a file. Raises DataError for problems."""
        problems.raise_any()
        statistics = self.statistics
        statistics.empty_records += problems.empty
        statistics.first_empty = statistics.first_empty or problems.first_empty
        for key, count in problems.unused.items():
            statistics.unused_keys[key] = statistics.unused_keys.get(key, 0) + count


def _reader(file: DataFile) -> Reader:
    if is_standard_input(file):
        return read_piped
    if file.path.is_dir():
        return read_saved_dataset
    return _READERS.get(suffix_of(file.path.name), read_jsonl)


def _prepared(content: Content, encoder: Encoder, problems: Problems) -> Iterator[Prepared]:
    """The records of a file. What is wrong with others is added to `problems`."""
    for where, example in _reader(content.file)(content, problems):
        try:
            yield encoder.prepare(example)
        except ValueError as error:
            problems.note(where, error)


def _batches(records: Iterable[Prepared]) -> Iterator[list[Prepared]]:
    """The records in order, some at a time: each call of the tokenizer's process takes time."""
    batch: list[Prepared] = []
    characters = 0
    for record in records:
        batch.append(record)
        characters += sum(map(len, record.texts))
        if characters > _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _encoded(
    batches: Iterable[list[Prepared]], encoder: Encoder
) -> Iterator[tuple[list[Prepared], list[Encoded]]]:
    """Each batch with its tokens. The tokenizer's process makes them while the next one is read."""
    with ThreadPoolExecutor(1, "tokens") as pool:
        before: tuple[list[Prepared], Future[Tokens]] | None = None
        for batch in batches:
            ahead = batch, pool.submit(encoder.tokens, batch)
            if before is not None:
                yield before[0], encoder.encode(before[0], before[1].result())
            before = ahead
        if before is not None:
            yield before[0], encoder.encode(before[0], before[1].result())


def read_corpus(
    files: Sequence[DataFile],
    tokenizer: Tokenizer,
    reading: Reading,
    progress: Progress,
    convert: Convert | None = None,
) -> Corpus:
    """The pieces of some files. `convert` makes another example of each.

    Raises DataError, also if nothing is left of them.
    """
    corpus, control = Corpus(), ControlTokens(tokenizer.control_tokens())
    with chat_renderer(tokenizer) as renderer:
        encoder = Encoder(tokenizer, renderer, reading, convert)
        for file in files:
            problems, content = Problems(strict=reading.strict), Content(file)
            batches = _batches(_prepared(content, encoder, problems))
            for batch, encoded in _encoded(batches, encoder):
                for prepared, whole in zip(batch, encoded, strict=True):
                    control.look_at(prepared.example)
                    corpus.add(prepared.example, whole, encoder)
                progress.at(content.position)
            if tokenizer.labels is not None:
                del problems.unused[LABEL]
            corpus.tell(problems)
            progress.end(content.size)
    corpus.statistics.control_tokens = dict(control.found)
    corpus.statistics.control_records = control.records
    if not corpus.pieces:
        raise _nothing(files, corpus.statistics, reading.length)
    return corpus


def _nothing(files: Sequence[DataFile], statistics: Dataset, length: int) -> DataError:
    """The error for files of which no piece is left."""
    names = ", ".join(file.name for file in files[:3]) + (" …" if len(files) > 3 else "")
    if statistics.skipped_records:
        return DataError(
            f"{names}: nothing that counts fits into {length} tokens: "
            "every prompt alone fills the sequence length",
            "compile with a longer --seq, or shorten the prompts",
        )
    if statistics.empty_records:
        return DataError(
            f"{names}: no record has anything to learn ({statistics.first_empty})",
            "give records with a completion",
        )
    return DataError(f"{names}: the data set is empty", "give a file with records or text")
