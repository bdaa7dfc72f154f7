# SPDX-License-Identifier: Apache-2.0
"""Only plain files are read, and nothing that stands in a file's place makes a reader wait."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gsqc.files.reading import open_file, read_file


def test_a_plain_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"text")
    with open_file(file, links=False) as opened:
        assert opened.read() == b"text"
    assert read_file(file) == b"text"


def test_a_link_is_followed_only_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    link = tmp_path / "link"
    link.symlink_to("file")
    assert read_file(link) == b"text"
    with pytest.raises(OSError, match="it is a link, not a plain file"):
        read_file(link, links=False)


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, what in (
            (tmp_path / "fifo", "a FIFO"),
            (tmp_path / "socket", "a socket"),
            (tmp_path, "a directory"),
            (Path("/dev/zero"), "a device"),
        ):
            with pytest.raises(OSError, match=f"it is {what}, not a plain file"):
                open_file(name)


def test_a_name_that_cannot_be_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="its name is not valid"):
        open_file(tmp_path / "a\0b")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as opened:
        opened.truncate(3 << 20)
    with pytest.raises(OSError, match="it has 3 MiB, and at most 1 are read"):
        read_file(file, most_bytes=1 << 20)
