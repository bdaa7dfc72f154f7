# SPDX-License-Identifier: Apache-2.0
"""What is data below a directory, what is held out, and what is not read.

Splits are known by their names (names.py). With a split "train", that one is trained on. Text files
have splits only if "train" has another beside it, for a note may be named after a test.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gsqc.data.names import (
    HELD_OUT,
    LINE_SUFFIXES,
    TEST,
    TRAIN,
    Kind,
    kind_of,
    split_of,
    suffix_of,
)
from gsqc.errors import DataError

CHECK_PATH = "check the path"
LINKED, SPECIAL = "links", "special files"
CARD, OTHER_KIND, DATA_KIND = "cards and settings", "files of other kinds", "data of other kinds"
RUN, BUNDLE, MODEL, TWICE = "runs of gsqc", "bundles", "models", "links to files read already"
NO_SPLIT, OTHER_SPLIT = "files of no split", "files of the split "
RUN_FILES = ("config.toml", "state.safetensors", "best.safetensors", "log.jsonl")
"""Files of a run beside its config.json (gsqc/runtime/store.py)."""


@dataclass(frozen=True)
class DataFile:
    """A file of data, or a directory of the package `datasets`.

    name  for messages and digests: relative to the directory that the user named
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Unread:
    """A file or folder that is not read, and the kind of thing that it is."""

    name: str
    kind: str


@dataclass
class Found:
    """The files of a data set: what is trained on, what is held out, and what is not read."""

    train: list[DataFile] = field(default_factory=list)
    held_out: list[DataFile] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)


def is_saved_dataset(path: Path) -> bool:
    """Whether a directory is one that `datasets` wrote with save_to_disk."""
    # Path.is_file raises where a directory may not be entered.
    return any(os.path.isfile(path / f"dataset_{name}.json") for name in ("info", "dict"))


def _what_it_is(folder: Path) -> str | None:
    """The kind of a folder that is never data: a run, a bundle or a model. None for others."""
    if os.path.isfile(folder / "manifest.json") and os.path.isfile(folder / "plan.json"):
        return BUNDLE
    if not os.path.isfile(folder / "config.json"):
        return None
    if any(os.path.lexists(folder / name) for name in RUN_FILES):
        return RUN
    is_model = any(os.path.isfile(folder / f"tokenizer{end}.json") for end in ("", "_config"))
    return MODEL if is_model else None


def look_into(folder: Path, named: Collection[Path]) -> Found:
    """The data below a directory. `named` has the resolved paths that the user gave.

    Raises DataError if nothing can be read, or if it holds data of several forms.
    """
    if (kind := _what_it_is(folder)) is not None:
        raise DataError(f"{folder} is no data: it is one of the {kind}", CHECK_PATH)
    files: list[DataFile] = []
    unread: list[Unread] = []
    try:
        for path, kind in _walk(folder, {folder.resolve(), *named}):
            name = path.relative_to(folder).as_posix()
            if kind is None:
                files.append(DataFile(path, name))
            else:
                unread.append(Unread(name, kind))
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or folder}: {error.strerror}", CHECK_PATH
        ) from None
    chosen, others = _of_one_form(folder, sorted(files, key=lambda f: f.name), unread)
    found = _by_split(folder, chosen)
    found.unread = sorted([*unread, *others, *found.unread], key=lambda u: u.name)
    return found


def _walk(folder: Path, allowed: Collection[Path]) -> Iterator[tuple[Path, str | None]]:
    """Each file, and each folder that is not entered, with the kind of what is not read.

    Hidden files count as absent.
    """
    for at, folders, names in os.walk(folder, onerror=_raise):
        inner = sorted(name for name in folders if not name.startswith("."))
        folders[:] = []
        for path in (Path(at, name) for name in inner):
            kind = LINKED if path.is_symlink() else _what_it_is(path)
            if kind is not None or is_saved_dataset(path):
                yield path, kind
            else:
                folders.append(path.name)
        for path in (Path(at, name) for name in sorted(names) if not name.startswith(".")):
            if path.is_symlink() and not _stays(path, allowed):
                yield path, LINKED
            else:
                yield path, None if path.is_file() else SPECIAL


def _raise(error: OSError) -> None:
    raise error


def _stays(link: Path, allowed: Collection[Path]) -> bool:
    """Whether a link leads to a plain file in one of the allowed directories, or to one of them."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return target.is_file() and any(place in allowed for place in (target, *target.parents))


def _of_one_form(
    folder: Path, files: list[DataFile], unread: list[Unread]
) -> tuple[list[DataFile], list[Unread]]:
    """The record files, or else the texts, and the other files as what is not read."""
    kinds = {f: Kind.RECORDS if f.path.is_dir() else kind_of(f.path.name) for f in files}
    of = {kind: [f for f in files if kinds[f] is kind] for kind in Kind}
    records, texts = of[Kind.RECORDS], of[Kind.TEXT]
    if records and texts:
        raise DataError(
            f"{folder} has text files and record files ({texts[0].name}, {records[0].name})",
            "name the files to read, each with --data",
        )
    unreadable = of[Kind.UNREADABLE]
    if not records and not texts and unreadable:
        raise DataError(
            f"{folder} has data of a kind that gsqc does not read ({unreadable[0].name})",
            "make it JSONL: one record on each line",
        )
    cards = [f for f in of[Kind.CARD] if suffix_of(f.path.name) != ".json"]
    chosen = records or sorted(texts + cards, key=lambda f: f.name)
    if not chosen:
        linked = next((u.name for u in unread if u.kind == LINKED), None)
        links = f", and {linked} is a link that leads out of it" if linked else ""
        raise DataError(
            f"{folder} has no file of records or text{links}",
            "give a directory with .jsonl, .json, .csv, .parquet, .txt or .md files, or a file",
        )
    names = {Kind.UNREADABLE: DATA_KIND, Kind.OTHER: OTHER_KIND, Kind.CARD: CARD}
    left = [Unread(f.name, names[kinds[f]]) for f in files if f not in set(chosen)]
    return chosen, left


def _by_split(folder: Path, files: list[DataFile]) -> Found:
    """The files to train on and those held out. Raises DataError if there is nothing to train."""
    by_split: dict[str | None, list[DataFile]] = {None: [], TRAIN: [], HELD_OUT: [], TEST: []}
    for file in files:
        by_split[split_of(Path(file.name))].append(file)
    is_text = kind_of(files[0].name) in (Kind.TEXT, Kind.CARD)
    splits = [split for split in (TRAIN, HELD_OUT, TEST) if by_split[split]]
    if is_text and (TRAIN not in splits or len(splits) < 2):
        by_split = {None: files, TRAIN: [], HELD_OUT: [], TEST: []}
    chosen = by_split[TRAIN] or by_split[None]
    if not chosen:
        first = files[0]
        raise DataError(
            f"{folder} has no file to train on: {first.name} is of the split "
            f"{split_of(Path(first.name))}",
            "name the files to train on, each with --data",
        )
    found = Found(_each_once(chosen), _each_once(by_split[HELD_OUT]))
    for part in (chosen, by_split[HELD_OUT]):
        read = {f.name for f in (*found.train, *found.held_out)}
        found.unread += [Unread(f.name, TWICE) for f in part if f.name not in read]
    found.unread += [Unread(f.name, OTHER_SPLIT + TEST) for f in by_split[TEST]]
    if by_split[TRAIN]:
        found.unread += [Unread(f.name, NO_SPLIT) for f in by_split[None]]
    _require_one_form(folder, found.train)
    return found


def _each_once(files: Iterable[DataFile]) -> list[DataFile]:
    """The files without links to others of them."""
    first: dict[Path, DataFile] = {}
    for file in sorted(files, key=lambda f: (f.path.is_symlink(), f.name)):
        first.setdefault(file.path.resolve(), file)
    return sorted(first.values(), key=lambda f: f.name)


def _require_one_form(folder: Path, files: list[DataFile]) -> None:
    """DataError if records come in several forms: often the same ones, which would count twice."""
    forms: dict[str, str] = {}
    for file in files:
        suffix = "directory" if file.path.is_dir() else suffix_of(file.name)
        form = ".jsonl" if suffix in LINE_SUFFIXES else suffix
        if kind_of(file.name) is Kind.RECORDS or file.path.is_dir():
            forms.setdefault(form, file.name)
    if len(forms) > 1:
        raise DataError(
            f"{folder} has records in several forms ({', '.join(forms.values())})",
            "name the files to read, each with --data",
        )
