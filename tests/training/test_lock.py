# SPDX-License-Identifier: Apache-2.0
"""One process trains a run, and its lock ends with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gsqc.errors import RunError
from gsqc.training.lock import RunLock


def test_a_second_holder_is_refused_and_told_who_holds(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "run")
    with pytest.raises(RunError, match=f"(?m)is being trained by process {os.getpid()}$"):
        RunLock(tmp_path / "run")
    lock.release()
    RunLock(tmp_path / "run").release()


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from gsqc.training.lock import RunLock;"
        "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"(?m)process {holder.pid}$"):
            RunLock(tmp_path)
        holder.kill()
    RunLock(tmp_path).release()


def test_a_directory_made_for_nothing_goes_again(tmp_path: Path) -> None:
    RunLock(tmp_path / "runs" / "a").release()
    assert list((tmp_path / "runs").iterdir()) == []
    lock = RunLock(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "a" / "log.jsonl").write_text("")
    lock.release()
    lock.release()
    assert (tmp_path / "runs" / "a" / "log.jsonl").exists()


def test_a_place_that_takes_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError):
            RunLock(place)
