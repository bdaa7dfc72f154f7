# SPDX-License-Identifier: Apache-2.0
"""A result takes its place at once, and what killed processes left is recovered."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gsqc.files import placing
from gsqc.files.placing import NEW, OLD, new_directory, new_file, workspace
from gsqc.files.writing import temporary_name


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def write(place: Path, text: str) -> None:
    with new_directory(place) as work:
        (work / "file").write_text(text)


@pytest.mark.parametrize("has_exchange", [True, False])
def test_a_directory_is_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_exchange: bool
) -> None:
    def refuse(*_: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    if not has_exchange:
        monkeypatch.setattr(placing, "_exchange", refuse)
    for text in ("one", "two"):
        write(tmp_path / "place", text)
        assert (tmp_path / "place" / "file").read_text() == text
        assert names(tmp_path) == ["place"]


def test_at_no_moment_is_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single call of the system exchanges both names."""
    write(tmp_path / "place", "one")
    renames: list[object] = []
    monkeypatch.setattr(os, "rename", lambda *paths: renames.append(paths))
    write(tmp_path / "place", "two")
    assert (tmp_path / "place" / "file").read_text() == "two" and not renames


def test_a_file_takes_its_place(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "place").symlink_to("mine")
    with new_file(tmp_path / "place") as work:
        work.write_text("new")
    assert (tmp_path / "place").read_text() == "new"
    assert (tmp_path / "mine").read_text() == "mine"


PROGRAM = """
import os, signal, sys
from pathlib import Path
from gsqc.files import placing
place = Path(sys.argv[1])
def refuse(*_): raise OSError(22, "")
if sys.argv[2] == "between": placing._exchange = refuse
rename = os.rename
def killing(*paths):
    rename(*paths)
    os.kill(os.getpid(), signal.SIGKILL)
with placing.new_directory(place) as work:
    (work / "file").write_text("new")
    if sys.argv[2] == "while": os.kill(os.getpid(), signal.SIGKILL)
    os.rename = killing
"""


@pytest.mark.parametrize("moment", ["while", "between"])
def test_the_next_command_recovers(
    tmp_path: Path, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`between` is the moment between the two renames of a file system without exchange."""
    place = tmp_path / "place"
    write(place, "old")
    killed = subprocess.run([sys.executable, "-c", PROGRAM, place, moment], check=False)
    assert killed.returncode == -9
    assert place.exists() == (moment == "while") and len(names(tmp_path)) > (moment == "while")
    with workspace(place):
        assert (place / "file").read_text() == "old"
    assert names(tmp_path) == ["place"]
    assert "which an interrupted command left" in caplog.text
    assert ("put" in caplog.text) == (moment == "between")


def test_a_living_process_keeps_its_workspace(tmp_path: Path) -> None:
    with workspace(tmp_path / "place") as first, workspace(tmp_path / "place"):
        assert first.exists()


def test_a_strangers_directory_of_that_name_is_no_harm(tmp_path: Path) -> None:
    """Its `old` may be a link: the link itself is put back, and nothing is written through it."""
    mine = tmp_path / "mine"
    mine.mkdir()
    left = tmp_path / temporary_name("place")
    left.mkdir()
    (left / OLD).symlink_to(mine)
    (left / NEW).symlink_to(mine)
    with new_directory(tmp_path / "place") as work:
        (work / "file").write_text("new")
    assert list(mine.iterdir()) == [] and names(tmp_path) == ["mine", "place"]
