# SPDX-License-Identifier: Apache-2.0
"""The files of a data set: which they are, their digest, and their text. Sizes have limits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gsqc.errors import DataError
from gsqc.files.reading import open_file, read_file

MAXIMUM_DATA_BYTES = 512 << 20
"""Of all files together. It is more than a CPU trains on in days, and fits the memory as tokens."""
MAXIMUM_LINE_BYTES = 4 << 20
"""Of a record in a .jsonl file."""
MAXIMUM_ARRAY_BYTES = 64 << 20
"""Of a .json file, which gsqc reads as a whole."""

RECORD_SUFFIXES = (".jsonl", ".json")
TEXT_SUFFIXES = (".txt", ".md", ".markdown")
CHECK_PATH = "check the path given with --data"


def is_saved_dataset(path: Path) -> bool:
    """Whether a directory is one that `datasets` wrote with save_to_disk."""
    # Path.is_file raises where a directory may not be entered.
    return any(os.path.isfile(path / f"dataset_{name}.json") for name in ("info", "dict"))


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The files of a data set in a fixed order, and its directories that `datasets` wrote.

    Other directories stand for the files below them. Raises DataError if a path is missing or of an
    unknown kind, if a directory has no files, or if they are too large.
    """
    found = [file for path in paths for file in _expand(path)]
    sizes = [file_size(file) for file in found]
    if sum(sizes) > MAXIMUM_DATA_BYTES:
        total, most = (n >> 20 for n in (sum(sizes), MAXIMUM_DATA_BYTES))
        raise DataError(
            f"the data has {total} MiB, gsqc reads at most {most}",
            "give a part of it (head -n 100000)",
        )
    return found


def _expand(path: Path) -> list[Path]:
    if not os.path.exists(path):  # Path.exists raises for a name that is too long
        raise DataError(f"no such data file: {path}", CHECK_PATH)
    if path.is_dir() and not is_saved_dataset(path):
        return _walk(path)[0]
    if path.is_dir() or (
        path.is_file() and path.suffix.lower() in (*RECORD_SUFFIXES, *TEXT_SUFFIXES)
    ):
        return [path]
    try:
        open_file(path).close()
    except OSError as error:
        raise _unreadable(path, error) from None
    raise DataError(
        f"{path.name} is neither {', '.join(RECORD_SUFFIXES)} nor {', '.join(TEXT_SUFFIXES)}",
        "give JSONL with prompt and completion or messages, or plain text",
    )


def left_out(paths: Sequence[Path]) -> list[Path]:
    """The links, FIFOs and devices below the directories of a data set, which are not read.

    Raises DataError.
    """
    folders = [path for path in paths if path.is_dir() and not is_saved_dataset(path)]
    return [found for folder in folders for found in _walk(folder)[1]]


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """The text files below a directory, or else its JSONL files, in the order of relative paths.

    The second list has what is left out: links and special files. Hidden files count as absent.
    """
    files: list[Path] = []
    others: list[Path] = []
    try:
        for place, folders, names in os.walk(folder, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            others += [p for name in folders if (p := Path(place, name)).is_symlink()]
            for path in (Path(place, name) for name in names if not name.startswith(".")):
                (others if path.is_symlink() or not path.is_file() else files).append(path)
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or folder}: {error.strerror}", CHECK_PATH
        ) from None
    files.sort(key=lambda file: file.relative_to(folder).as_posix())
    texts = [file for file in files if file.suffix.lower() in TEXT_SUFFIXES]
    records = [file for file in files if file.suffix.lower() == ".jsonl"]
    if texts and records:
        raise DataError(
            f"{folder} has text files and JSONL files ({texts[0].name}, {records[0].name})",
            "name the files to read, each with --data",
        )
    if not texts and not records:
        raise DataError(
            f"{folder} has no {', '.join(TEXT_SUFFIXES)} or .jsonl file",
            "give a directory with notes, or a file",
        )
    return texts or records, sorted(others)


def _raise(error: OSError) -> None:
    raise error


def file_size(path: Path) -> int:
    """The bytes of a file, or of a directory that `datasets` wrote. Raises DataError."""
    try:
        files = [path] if path.is_file() else [p for p in path.rglob("*.arrow") if p.is_file()]
        return sum(file.stat().st_size for file in files)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot read {path}: {error.strerror}", CHECK_PATH)


def data_digest(paths: Sequence[Path]) -> str:
    """The sha256 of a file. For several files, it is taken over their names and their own digests.

    Raises DataError.
    """
    files = find_files(paths)
    parts = [
        p for file in files for p in ([file] if file.is_file() else sorted(file.rglob("*.arrow")))
    ]
    digests = [_sha256(part) for part in parts]
    if len(digests) == 1:
        return digests[0]
    lines = (f"{part.name} {digest}\n" for part, digest in zip(parts, digests, strict=True))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each behind its place as name:number. Raises DataError."""
    try:
        with open_file(path) as file:
            number = 0
            while line := file.readline(MAXIMUM_LINE_BYTES + 1):
                number += 1
                where = f"{path.name}:{number}"
                if len(line) > MAXIMUM_LINE_BYTES:
                    raise DataError(
                        f"{where}: a line longer than {MAXIMUM_LINE_BYTES >> 20} MiB",
                        "JSONL has one record on each line; cut long texts into several records",
                    )
                text = _decode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, where)
                if text.strip():
                    yield where, text
    except OSError as error:
        raise _unreadable(path, error) from None


def read_text(path: Path) -> str:
    """A whole file as text, without a byte order mark, lines ended by \\n. Raises DataError."""
    try:
        content = read_file(path, most_bytes=MAXIMUM_DATA_BYTES)
        text = _decode(content.removeprefix(b"\xef\xbb\xbf"), path.name)
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise _unreadable(path, error) from None


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = "" if ":" in where else f" in line {content.count(10, 0, error.start) + 1}"
        raise DataError(
            f"{where} is not UTF-8 (byte {error.start}{line})", "save the file as UTF-8"
        ) from None
