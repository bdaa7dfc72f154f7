# SPDX-License-Identifier: Apache-2.0
"""The images that records name, and their files.

{"image": "a.png", …}, {"images": ["a.png", "b.png"], …}, and messages whose content has parts
{"type": "image", "image": "a.png"}, where the key may be `path` too. A name is a path below the
directory of the file that names it. Data may be a stranger's: no other file is ever opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gsqc.data.content import Content, is_standard_input
from gsqc.data.directories import DataFile
from gsqc.data.files import find_files
from gsqc.data.json_reader import MAXIMUM_ARRAY_BYTES
from gsqc.data.names import LINE_SUFFIXES, suffix_of
from gsqc.errors import DataError
from gsqc.files.reading import read_file

MOST_IMAGE_BYTES = 64 << 20
_FORMS = '{"image": "a.png", …}, {"images": ["a.png"], …}, or {"type": "image", "image": "a.png"}'
_BELOW = "name files below the directory of the data: photos/a.png"
_PART_KEYS = ("image", "path")


@dataclass(frozen=True)
class NamedImage:
    """An image that a record names.

    where    the record
    root     the directory of the file of data
    name     as in the record
    """

    where: str
    root: Path
    name: str

    def read(self) -> tuple[bytes, str]:
        """The bytes of the image's file, and their sha256.

        DataError if the name leaves the directory, or if it is no plain file there.
        """
        path, pure = self.root / self.name, PurePosixPath(self.name)
        if "://" in self.name or self.name.startswith("data:"):
            raise self._error("is no path: gsqc fetches nothing")
        if pure.is_absolute() or ".." in pure.parts or "\\" in self.name or "\0" in self.name:
            raise self._error("is no path below the data's directory")
        real, root = os.path.realpath(path), os.path.realpath(self.root)
        if os.path.commonpath([real, root]) != root:
            raise self._error("leads out of the data's directory by a link")
        try:
            content = read_file(Path(real), most_bytes=MOST_IMAGE_BYTES, links=False)
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror or error}") from None
        return content, hashlib.sha256(content).hexdigest()

    def _error(self, what: str) -> DataError:
        return DataError(f"{self.where}: the image {self.name[:200]!r} {what}", _BELOW)


def find_images(paths: Sequence[Path]) -> list[NamedImage]:
    """The images of the records of JSONL and JSON files, in their order, each path once.

    The held-out split of a directory counts too. Raises DataError, also if no record has an image.
    """
    found = find_files(paths)
    images: dict[tuple[Path, str], NamedImage] = {}
    for file in (*found.train, *found.held_out):
        for image in _of_file(file):
            images.setdefault((image.root, image.name), image)
    if not images:
        raise DataError("no record of the data has an image", f"gsqc images reads {_FORMS}")
    return list(images.values())


def _of_file(file: DataFile) -> Iterator[NamedImage]:
    for where, record in records_of(file):
        try:
            if not isinstance(record, dict):
                raise ValueError("not a JSON object")
            names, _ = split_images(record, "")
        except ValueError as error:
            raise DataError(f"{where}: {error}", f"gsqc images reads {_FORMS}") from None
        for name in names:
            yield NamedImage(where, file.path.parent, name)


def records_of(file: DataFile) -> Iterator[tuple[str, Any]]:
    """The records of a file behind their places. Raises DataError."""
    suffix, content = suffix_of(file.path.name), Content(file)
    if is_standard_input(file) or suffix not in (*LINE_SUFFIXES, ".json"):
        raise DataError(
            f"{file.name}: images are read from records in JSONL and JSON files",
            "write the records to a .jsonl file beside the images",
        )
    try:
        if suffix == ".json":
            where = file.name
            records = json.loads(content.text(MAXIMUM_ARRAY_BYTES))
            numbered = enumerate(records if isinstance(records, list) else [None], 1)
            yield from ((f"{file.name} record {number}", record) for number, record in numbered)
            return
        for number, line in content.lines():
            where = f"{file.name}:{number}"
            if not line.isspace():
                yield where, json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: not JSON", "write one record on each line") from None


def split_images(record: Any, text: str) -> tuple[list[str], Any]:
    """The names of a record's images in the order of its texts, and the record without them, with
    `text` in the place of each part of a message that is an image.

    What is no JSON object is left to the reader of records. Raises ValueError.
    """
    if not isinstance(record, dict):
        return [], record
    listed = record.get("images")
    if not isinstance(listed, list | None):
        raise ValueError("images is not a list of paths")
    first = [] if record.get("image") is None else [record["image"]]
    rest = iter([*first, *(listed or [])])
    plain = {key: value for key, value in record.items() if key not in ("image", "images")}
    named: list[Any] = []
    for key in ("messages", "prompt", "completion"):
        if isinstance(plain.get(key), list):
            plain[key] = [_message(message, rest, named, text) for message in plain[key]]
    names = [*named, *rest]
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("an image is not named by a path")
    return names, plain


def _message(message: Any, rest: Iterator[Any], named: list[Any], text: str) -> Any:
    """A message with a text in the place of each part that is an image. A part without a name
    stands for the next image of the record.
    """
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return message
    parts = []
    for part in message["content"]:
        is_image, name = _part_image(part)
        if is_image:
            name = next(rest, None) if name is None else name
            if name is None:
                raise ValueError("a part is an image, and the record names none for it")
            named.append(name)
        parts.append({"type": "text", "text": text} if is_image else part)
    return {**message, "content": parts}


def _part_image(part: Any) -> tuple[bool, Any]:
    """Whether a part of a message is an image, and what names it, or None. Raises ValueError."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "image_url":
        raise ValueError("a part has the type image_url, and gsqc fetches nothing")
    if kind != "image":
        return False, None
    return True, next((part[key] for key in _PART_KEYS if part.get(key) is not None), None)
