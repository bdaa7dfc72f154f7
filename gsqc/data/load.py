# SPDX-License-Identifier: Apache-2.0
"""From files to sequences to train on and sequences held out, by `load_split` and its relatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from gsqc.data.content import raw_size
from gsqc.data.corpus import Corpus, Progress
from gsqc.data.directories import OTHER_SPLIT, DataFile, Unread
from gsqc.data.encode import Convert, Reading
from gsqc.data.files import find_files, held_out_files
from gsqc.data.labels import require_for_labels
from gsqc.data.names import HELD_OUT
from gsqc.data.options import DataOptions, validation_share
from gsqc.data.packing import pack_pieces
from gsqc.data.padded import PaddedSequences
from gsqc.data.piece_store import PieceStore, in_both
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.data.read_corpus import read_corpus
from gsqc.data.seen import ImageTable
from gsqc.data.sequences import Dataset, Piece
from gsqc.data.token_cache import TokenCache, cache_key
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import DataError, OptionError
from gsqc.numerics.random import permutation

HELD_OUT_SEED = 1
"""The split does not depend on --seed: runs with other seeds are measured on the same records."""

OnProgress = Callable[[int, int], None]
"""Called with the bytes that are read and those of all files."""


def _dataset(
    pieces: Sequence[Piece],
    corpus: Corpus,
    tokenizer: Tokenizer,
    length: int,
    *,
    packing: bool,
    images: ImageTable | None = None,
) -> Dataset:
    labelled = tokenizer.labels is not None
    if packing and tokenizer.eos is None and not tokenizer.beginning and not labelled:
        raise DataError(
            "the model has neither an end-of-text nor a beginning token "
            "to stand between packed records",
            "train without --packing",
        )
    kept = pack_pieces(pieces, length) if packing else pieces
    finish = None if images is None else images.with_rows
    sequences = PaddedSequences(kept, length, labelled=labelled, finish=finish)
    return replace(corpus.statistics, sequences=sequences)


def load_data(
    data: Path | Sequence[Path],
    tokenizer: Tokenizer,
    length: int,
    *,
    mask_prompt: bool = True,
    packing: bool = False,
    strict: bool = False,
    prompt_end: str = DEFAULT_END,
    on_progress: OnProgress | None = None,
) -> Dataset:
    """The sequences of `length` tokens of some files or directories (docs/data.md).

    mask_prompt  whether only completions and turns of the assistant have a loss
    packing      whether short records share a sequence
    strict       whether a record with nothing to learn is an error
    prompt_end   what stands between a prompt and its completion

    Of a directory with splits it is what is trained on. Raises DataError.
    """
    found = find_files([data] if isinstance(data, Path) else list(data))
    reading = Reading(length, mask_prompt, prompt_end, strict)
    corpus = read_corpus(found.train, tokenizer, reading, _progress(found.train, on_progress))
    corpus.statistics.unread = [*found.unread, *_left_alone(found.held_out, [])]
    return _dataset(corpus.pieces, corpus, tokenizer, length, packing=packing)


def load_split(
    options: DataOptions,
    tokenizer: Tokenizer,
    length: int,
    *,
    convert: Convert | None = None,
    on_progress: OnProgress | None = None,
    cache: TokenCache | None = None,
    images: ImageTable | None = None,
) -> tuple[Dataset, Dataset | None]:
    """What is trained on, and what is held out, in sequences of `length` tokens.

    gsqc's own generator draws a share from the records, and from the pieces of documents. It is the
    same on every machine, whatever --seed is. What is held out is never packed, so its loss is that
    of a record alone. Without --validation, the split of that name of a directory is held out.
    `on_progress` takes the bytes that are read, and how many there are. `convert` makes another
    example of each. `cache` gives the tokens of the same data, or keeps them: not with `convert`.
    Raises DataError, OptionError.
    """
    _require_fitting(options, tokenizer, images)
    share, reading = validation_share(options.validation), _reading(options, length)
    found, held_files = find_files(options.data), held_out_files(options)
    parts = [found.train, held_files] if held_files else [found.train]
    progress = _progress([file for part in parts for file in part], on_progress)
    corpus, *held_corpora = _read(parts, tokenizer, reading, progress, convert, cache, images)
    dataset = partial(_dataset, tokenizer=tokenizer, length=length, images=images)
    kept, held, statistics = corpus.pieces, None, corpus.statistics
    statistics.unread = [*found.unread, *_left_alone(found.held_out, held_files)]
    if share is not None:
        kept, held = _drawn(corpus.pieces, share)
        validation = dataset(held, Corpus(), packing=False)
    elif held_files:
        held = held_corpora[0].pieces
        validation = dataset(held, held_corpora[0], packing=False)
        if options.validation is None:
            statistics.held_out_by_name = [file.name for file in held_files]
    if held is not None:
        statistics.held_out_twice = in_both(kept, held)
    train = dataset(kept, corpus, packing=options.packing)
    return train, None if held is None else validation


def load_held_out(
    options: DataOptions, tokenizer: Tokenizer, length: int, convert: Convert | None = None
) -> Dataset | None:
    """What `load_split` holds out, or None. It reads no file that it does not need for that.

    Raises DataError, OptionError.
    """
    _require_fitting(options, tokenizer, None)
    if validation_share(options.validation) is not None:
        return load_split(options, tokenizer, length, convert=convert)[1]
    files = held_out_files(options)
    if not files:
        return None
    reading = _reading(options, length)
    corpus = read_corpus(files, tokenizer, reading, _progress(files, None), convert)
    return _dataset(corpus.pieces, corpus, tokenizer, length, packing=False)


def _require_fitting(options: DataOptions, tokenizer: Tokenizer, images: ImageTable | None) -> None:
    _require_images(options, images)
    if tokenizer.labels is not None:
        require_for_labels(options)


def _require_images(options: DataOptions, images: ImageTable | None) -> None:
    """OptionError if images are named where none are read, or packed."""
    if options.images is None:
        return
    if images is None:
        raise OptionError("--images has a meaning for gsqc train alone", "leave it out here")
    if options.packing:
        raise OptionError("records with images are not packed", "train without --packing")


def _reading(options: DataOptions, length: int) -> Reading:
    return Reading(length, options.mask_prompt, options.prompt_end, options.strict)


def _read(
    parts: list[list[DataFile]],
    tokenizer: Tokenizer,
    reading: Reading,
    progress: Progress,
    convert: Convert | None,
    cache: TokenCache | None,
    images: ImageTable | None,
) -> list[Corpus]:
    """A corpus of each part, from the cache if it has them."""
    if images is not None:
        cache = None  # its key knows no images
    key = "" if cache is None else cache_key(parts, tokenizer, reading)
    if cache is not None and (known := cache.read(key)) is not None and len(known) == len(parts):
        return known
    corpora = [read_corpus(part, tokenizer, reading, progress, convert, images) for part in parts]
    if cache is not None:
        cache.keep(key, corpora)
    return corpora


def _progress(files: Sequence[DataFile], tell: OnProgress | None) -> Progress:
    return Progress(0 if tell is None else sum(map(raw_size, files)), tell)


def _left_alone(split: Sequence[DataFile], read: Sequence[DataFile]) -> list[Unread]:
    """The files of a directory's held-out split that are not read."""
    paths = {file.path.resolve() for file in read}
    return [
        Unread(file.name, OTHER_SPLIT + HELD_OUT)
        for file in split
        if file.path.resolve() not in paths
    ]


def _drawn(pieces: PieceStore, share: Fraction) -> tuple[PieceStore, PieceStore]:
    """The pieces that stay, and a share of them that is held out. Raises DataError."""
    count = len(pieces)
    if count < 2:
        raise DataError(
            "one record is not enough to hold a share out", "give more data, or --validation FILE"
        )
    size = min(max(round(share * count), 1), count - 1)
    held = set(permutation(count, HELD_OUT_SEED, 0)[:size])
    return pieces.pick(k for k in range(count) if k not in held), pieces.pick(sorted(held))
