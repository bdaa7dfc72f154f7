# SPDX-License-Identifier: Apache-2.0
"""Writing changes no file but the one that is named, whatever a stranger put in its directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from gsqc.errors import FileError
from gsqc.files.writing import (
    append_to_file,
    copy_file,
    is_temporary,
    open_own,
    remove_leftovers,
    replace_file,
    temporary_name,
    write_new,
    write_result,
)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file of the user, outside of the stranger's directory."""
    (tmp_path / "theirs").mkdir()
    file = tmp_path / "profile"
    file.write_text("mine")
    return file


def test_a_link_is_replaced_and_not_followed(mine: Path, tmp_path: Path) -> None:
    place = tmp_path / "theirs" / "state"
    place.symlink_to(mine)
    replace_file(place, [b"new"])
    assert not place.is_symlink() and place.read_text() == "new"
    assert mine.read_text() == "mine"


def test_a_replaced_file_leaves_other_names_of_it_alone(mine: Path, tmp_path: Path) -> None:
    place = tmp_path / "theirs" / "state"
    os.link(mine, place)
    replace_file(place, [b"new"])
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "directory"])
def test_what_is_changed_in_place_must_be_a_plain_file(
    mine: Path, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "theirs" / "log"
    if kind == "link":
        place.symlink_to(mine)
    elif kind == "hard link":
        os.link(mine, place)
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    for access in (os.O_RDWR, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(OSError, match=r"link|FIFO|[Dd]irectory"):
            open_own(place, access)
    with pytest.raises(OSError, match=r"link|FIFO|[Dd]irectory"):
        append_to_file(place, b"theirs")
    assert mine.read_text() == "mine"


def test_new_files_are_new(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs" / "a").symlink_to(mine)
    (tmp_path / "theirs" / "b").symlink_to(tmp_path / "absent")
    for name in ("a", "b"):
        with pytest.raises(FileExistsError):
            write_new(tmp_path / "theirs" / name, "theirs")
        with pytest.raises(FileExistsError):
            copy_file(mine, tmp_path / "theirs" / name)
    assert mine.read_text() == "mine" and not (tmp_path / "absent").exists()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("old")

    def fail() -> None:
        def content() -> object:
            yield b"half"
            raise OSError(5, "Input/output error")

        replace_file(place, content())  # type: ignore[arg-type]

    with pytest.raises(OSError, match="Input/output"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and place.read_text() == "old"


def test_temporary_names_are_known_again(tmp_path: Path) -> None:
    for name in ("state.safetensors", "x" * 255, "a b"):
        entry = temporary_name(name)
        assert is_temporary(entry, name) and len(entry) <= 255
        assert temporary_name(name) != entry
    assert not is_temporary(".state.tmp", "state")


def test_leftovers_go_and_files_of_living_processes_stay(tmp_path: Path) -> None:
    left, held = (tmp_path / temporary_name("log") for _ in range(2))
    left.write_text("")
    (tmp_path / ".log.tmp").write_text("")
    with held.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_leftovers(tmp_path, ["log"])
        assert {p.name for p in tmp_path.iterdir()} == {".log.tmp", held.name}
    replace_file(tmp_path / "log", [b"new"])
    assert {p.name for p in tmp_path.iterdir()} == {".log.tmp", "log"}


def test_a_file_that_was_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock, another process may remove it."""
    lock, removed = fcntl.flock, []

    def late(file: int, how: int) -> None:
        if not removed:
            removed.extend(tmp_path.iterdir())
            removed[0].unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    replace_file(tmp_path / "log", [b"new"])
    assert removed and [p.name for p in tmp_path.iterdir()] == ["log"]


def test_a_result_gets_its_directory(tmp_path: Path) -> None:
    write_result(tmp_path / "a" / "b", [b"new"])
    assert (tmp_path / "a" / "b").read_bytes() == b"new"
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot write .*: File exists"):
        write_result(tmp_path / "file" / "b", [b"new"])
