# SPDX-License-Identifier: Apache-2.0
"""load_data and load_split: from files to sequences to train on, and sequences held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gsqc.data.chat import ChatRenderer
from gsqc.data.encode import Encoder, Prepared, Reading
from gsqc.data.files import TEXT_SUFFIXES, find_files, left_out
from gsqc.data.json_reader import read_array, read_jsonl
from gsqc.data.options import DataOptions, validation_share
from gsqc.data.packing import pack_pieces
from gsqc.data.problems import Problems
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.data.records import Document, Example
from gsqc.data.saved_dataset import read_saved_dataset
from gsqc.data.sequences import Dataset, PaddedSequences, Piece
from gsqc.data.text_reader import read_document
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError
from gsqc.numerics.random import permutation

HELD_OUT_SEED = 1
"""The split does not depend on --seed: runs with other seeds are measured on the same records."""

_BATCH_CHARACTERS = 1 << 18
"""Characters that are tokenised at once."""
Reader = Callable[[Path, Problems], Iterator[tuple[str, Example]]]


@dataclass
class _Corpus:
    """The pieces of some files, and what was cut of their records."""

    pieces: list[Piece] = field(default_factory=list)
    statistics: Dataset = field(default_factory=Dataset)

    def add(self, example: Example, whole: Piece, encoder: Encoder) -> None:
        """Cut a record's tokens and count them."""
        statistics = self.statistics
        found = list(encoder.cut(example, whole))
        statistics.record_lengths.append(len(whole.tokens))
        statistics.shapes[example.form] = statistics.shapes.get(example.form, 0) + 1
        statistics.shared.add(example)
        self.pieces += found
        if not found:
            statistics.skipped_records += 1
        elif not isinstance(example, Document):
            lost = max(len(whole.tokens) - (encoder.length + 1), 0)
            statistics.truncated_records += lost > 0
            statistics.truncated_tokens += lost


def _reader(path: Path) -> Reader:
    if path.is_dir():
        return read_saved_dataset
    suffix = path.suffix.lower()
    if suffix in TEXT_SUFFIXES:
        return read_document
    return read_array if suffix == ".json" else read_jsonl


def _prepared(path: Path, encoder: Encoder, problems: Problems) -> Iterator[Prepared]:
    """The records of a file. What is wrong with others is added to `problems`."""
    for where, example in _reader(path)(path, problems):
        try:
            yield encoder.prepare(example)
        except ValueError as error:
            problems.add(where, str(error))


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


def _load_corpus(
    paths: Sequence[Path], tokenizer: Tokenizer, length: int, reading: Reading
) -> _Corpus:
    corpus = _Corpus(statistics=Dataset(left_out=left_out(paths)))
    with ChatRenderer(tokenizer.chat_template, tokenizer.template_variables) as renderer:
        encoder = Encoder(tokenizer, length, renderer, reading)
        for file in find_files(paths):
            problems = Problems()
            for batch in _batches(_prepared(file, encoder, problems)):
                for prepared, whole in zip(batch, encoder.encode(batch), strict=True):
                    corpus.add(prepared.example, whole, encoder)
            problems.raise_any()
    if not corpus.pieces:
        names = ", ".join(path.name for path in paths)
        if corpus.statistics.skipped_records:
            raise DataError(
                f"{names}: nothing that counts fits into {length} tokens: "
                "every prompt alone fills the sequence length",
                "compile with a longer --seq, or shorten the prompts",
            )
        raise DataError(f"{names}: the data set is empty", "give a file with records or text")
    return corpus


def _dataset(
    pieces: Sequence[Piece], corpus: _Corpus, tokenizer: Tokenizer, length: int, *, packing: bool
) -> Dataset:
    if packing and tokenizer.eos is None and not tokenizer.beginning:
        raise DataError(
            "the model has neither an end-of-text nor a beginning token "
            "to stand between packed records",
            "train without --packing",
        )
    kept = pack_pieces(pieces, length) if packing else pieces
    return replace(corpus.statistics, sequences=PaddedSequences(kept, length))


def load_data(
    data: Path | Sequence[Path],
    tokenizer: Tokenizer,
    length: int,
    *,
    mask_prompt: bool = True,
    packing: bool = False,
    prompt_end: str = DEFAULT_END,
) -> Dataset:
    """The sequences of `length` tokens of some files: JSONL, JSON, text, Markdown, directories.

    mask_prompt  whether only completions and turns of the assistant have a loss
    packing      whether short records share a sequence
    prompt_end   what stands between a prompt and its completion

    Raises DataError.
    """
    paths = [data] if isinstance(data, Path) else list(data)
    corpus = _load_corpus(paths, tokenizer, length, Reading(mask_prompt, prompt_end))
    return _dataset(corpus.pieces, corpus, tokenizer, length, packing=packing)


def load_split(
    options: DataOptions,
    tokenizer: Tokenizer,
    length: int,
    convert: Callable[[Example], Example] | None = None,
) -> tuple[Dataset, Dataset | None]:
    """What is trained on, and what is held out, in sequences of `length` tokens.

    gsqc's own generator draws a share from the records, and from the pieces of documents. It is the
    same on every machine, whatever --seed is. What is held out is never packed, so its loss is that
    of a record alone. `convert` makes another example of each. Raises DataError, OptionError.
    """
    share = validation_share(options.validation)
    reading = Reading(options.mask_prompt, options.prompt_end, convert)
    corpus = _load_corpus(options.data, tokenizer, length, reading)
    if share is None:
        train = _dataset(corpus.pieces, corpus, tokenizer, length, packing=options.packing)
        if options.validation is None:
            return train, None
        held_out = _load_corpus([Path(options.validation)], tokenizer, length, reading)
        return train, _dataset(held_out.pieces, held_out, tokenizer, length, packing=False)
    count = len(corpus.pieces)
    if count < 2:
        raise DataError(
            "one record is not enough to hold a share out", "give more data, or --validation FILE"
        )
    chosen = permutation(count, HELD_OUT_SEED, 0)[: min(max(round(share * count), 1), count - 1)]
    held = set(chosen)
    kept = [piece for k, piece in enumerate(corpus.pieces) if k not in held]
    validation = Dataset(PaddedSequences([corpus.pieces[k] for k in sorted(held)], length))
    return _dataset(kept, corpus, tokenizer, length, packing=options.packing), validation
