# SPDX-License-Identifier: Apache-2.0
"""read_corpus: the files of a data set become pieces of tokens. What happened is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from gsqc.data.batches import batches
from gsqc.data.block_reader import read_blocks
from gsqc.data.content import Content, is_standard_input, raw_size
from gsqc.data.corpus import Corpus, Progress
from gsqc.data.csv_reader import read_csv
from gsqc.data.directories import DataFile
from gsqc.data.encode import Convert, Encoded, Encoder, Prepared, Reading, Tokens, chat_renderer
from gsqc.data.examples import Example
from gsqc.data.json_reader import read_array, read_jsonl, read_piped
from gsqc.data.names import TEXT_SUFFIXES, suffix_of
from gsqc.data.parquet_reader import read_parquet
from gsqc.data.problems import Problems
from gsqc.data.saved_dataset import read_saved_dataset
from gsqc.data.seen import ImageTable, Seen, read_seen
from gsqc.data.sequences import Dataset
from gsqc.data.text_reader import read_document
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError

Reader = Callable[[Content, Problems], Iterator[tuple[str, Example]]]
_READERS: dict[str, Reader] = {
    **dict.fromkeys(TEXT_SUFFIXES, read_document),
    ".json": read_array,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


def _reader(file: DataFile) -> Reader:
    if is_standard_input(file):
        return read_piped
    if file.path.is_dir():
        return read_saved_dataset
    return _READERS.get(suffix_of(file.path.name), read_jsonl)


def _encoded(
    given: Iterable[list[Prepared]], encoder: Encoder
) -> Iterator[tuple[list[Prepared], list[Encoded]]]:
    """Each batch with its tokens. The tokenizer's process makes them while the next one is read."""
    with ThreadPoolExecutor(1, "tokens") as pool:
        before: tuple[list[Prepared], Future[Tokens]] | None = None
        for batch in given:
            ahead = batch, pool.submit(encoder.tokens, batch)
            if before is not None:
                yield before[0], encoder.encode(before[0], before[1].result())
            before = ahead
        if before is not None:
            yield before[0], encoder.encode(before[0], before[1].result())


def _read_alone(
    file: DataFile,
    corpus: Corpus,
    encoder: Encoder,
    progress: Progress,
    images: ImageTable | None,
) -> None:
    """Read a file in this process, into the corpus."""
    problems, content = Problems(strict=encoder.reading.strict), Content(file)
    records: Iterator[tuple[str, Example | Seen]] = (
        _reader(file)(content, problems) if images is None else read_seen(file, problems, images)
    )
    for batch, encoded in _encoded(batches(records, encoder, problems), encoder):
        corpus.add(batch, encoded, encoder)
        progress.at(content.position)
    corpus.tell(problems, encoder)


def read_corpus(
    files: Sequence[DataFile],
    tokenizer: Tokenizer,
    reading: Reading,
    progress: Progress,
    convert: Convert | None = None,
    images: ImageTable | None = None,
) -> Corpus:
    """The pieces of some files. `convert` makes another example of each. With `images`, records may
    name some.

    Raises DataError, also if nothing is left of them.
    """
    corpus = Corpus()
    with chat_renderer(tokenizer) as renderer:
        encoder = Encoder(tokenizer, renderer, reading, convert, images)
        for file in files:
            part = None
            if convert is None and images is None and _reader(file) is read_jsonl:
                part = read_blocks(file, tokenizer, reading, progress)
            if part is None:
                _read_alone(file, corpus, encoder, progress, images)
            elif file is files[0]:
                corpus = part  # a copy would double the memory
            else:
                corpus.take(part)
            progress.end(raw_size(file))
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
