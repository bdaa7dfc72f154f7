# SPDX-License-Identifier: Apache-2.0
"""A bundle that changes while it is used gives an error, and never other bits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import BASE
from gsqc.bundle.tensor_file import MappedTensors
from gsqc.data import DataOptions
from gsqc.errors import BundleChangedError, RunTakenError
from gsqc.files.reading import open_file
from gsqc.runtime.session import Session
from gsqc.training.callbacks import StopTraining
from gsqc.training.open_run import open_run
from gsqc.training.options import TrainOptions


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A bundle of this test's own, beside data."""
    shutil.copytree(bundle, tmp_path / "copy.gsqc")
    records = (f'{{"prompt": "a{k}", "completion": "b{k}"}}\n' for k in range(5))
    (tmp_path / "data.jsonl").write_text("".join(records))
    return tmp_path / "copy.gsqc"


def train(copy: Path, run: str, change: Callable[[int], object], **options: Any) -> None:
    """Train six steps, saved every two. `change` is called after each."""
    reading = DataOptions((copy.parent / "data.jsonl",))
    chosen = TrainOptions(**{"steps": 6, "save_every": 2, **options})
    with open_run(copy, reading, copy.parent / run, chosen) as trainer:
        trainer.callbacks.on_step = lambda entry: change(entry["step"])
        trainer.run()


def saved(copy: Path, run: str) -> tuple[int, bytes]:
    """The step of the saved state, and the file."""
    file = copy.parent / run / "state.safetensors"
    with open_file(file) as opened:
        return int(MappedTensors(opened).metadata["step"]), file.read_bytes()


def flip(file: Path, times: os.stat_result | None = None) -> None:
    """Change a byte of a file in place, and set its times as they were if they are given."""
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        last = opened.read(1)[0]
        opened.seek(-1, os.SEEK_END)
        opened.write(bytes([last ^ 1]))
    if times is not None:
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("hides_it", [False, True])
def test_a_run_ends_and_its_saved_state_is_right(copy: Path, hides_it: bool) -> None:
    base = copy / BASE
    before = base.stat() if hides_it else None
    expected: list[bytes] = []

    def change(step: int) -> None:
        if step == 3:
            expected.append((copy.parent / "run" / "state.safetensors").read_bytes())
            flip(base, before)

    with pytest.raises(BundleChangedError, match="the steps after step 2 were left out"):
        train(copy, "run", change)
    assert saved(copy, "run") == (2, expected[0])
    flip(base)
    train(copy, "run", lambda step: None)
    train(copy, "other", lambda step: None)
    assert saved(copy, "run") == saved(copy, "other")


def test_a_replaced_file_is_no_change(copy: Path) -> None:
    """What was hashed stays open, whatever its name leads to."""
    other = copy.parent / "other"
    shutil.copyfile(copy / BASE, other)
    flip(other)
    train(copy, "run", lambda step: other.replace(copy / BASE) if step == 3 else None)
    shutil.copyfile(copy / BASE, other)
    flip(other)
    other.replace(copy / BASE)
    train(copy, "whole", lambda step: None)
    assert saved(copy, "run") == saved(copy, "whole")


def test_what_the_file_system_does_not_tell_is_found_by_its_hash(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsqc.bundle.files.HeldFile.is_touched", lambda self: False)
    with pytest.raises(BundleChangedError):
        train(copy, "run", lambda step: step == 1 and flip(copy / BASE), verify="always")
    assert not (copy.parent / "run" / "state.safetensors").exists()


def test_evaluation_and_generation_end_too(copy: Path) -> None:
    session = Session(copy)
    flip(copy / BASE)
    with pytest.raises(BundleChangedError):
        session.bundle.require_unchanged()
    with pytest.raises(BundleChangedError):
        list(session.generate([1, 2], 2))


def test_overwritten_kernels_do_not_crash_a_run(copy: Path) -> None:
    """`cp` over a loaded library ended the process: a private copy is loaded."""
    code = next(file for file in copy.rglob("*") if "code" in file.parts and file.is_file())

    def change(step: int) -> None:
        with code.open("r+b") as opened:
            opened.write(bytes(code.stat().st_size))

    train(copy, "run", change)
    assert saved(copy, "run")[0] == 6


TRUNCATED = """
import os, sys
from pathlib import Path
from gsqc.bundle.bundle import Bundle
from gsqc.runtime.session import Session
session = Session(Path(sys.argv[1]), target=sys.argv[2])
base = session.bundle.map_tensors("base.safetensors")
os.truncate(Path(sys.argv[1]) / "base.safetensors", 8)
print(sum(int(tensor.sum()) for tensor in base.values()))
"""


@pytest.mark.parametrize("target", ["numpy", "native"])
def test_a_file_that_is_cut_short_ends_in_a_sentence(copy: Path, target: str) -> None:
    command = [sys.executable, "-c", TRUNCATED, str(copy), target]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: a file of the bundle was cut short")


def test_a_deleted_lock_is_made_again(copy: Path) -> None:
    lock = copy.parent / "run" / "lock"

    def change(step: int) -> None:
        if step == 1:
            lock.unlink()
        if step == 2:
            with pytest.raises(Exception, match="is being trained by process"):
                train(copy, "run", lambda step: None)

    train(copy, "run", change)
    assert saved(copy, "run")[0] == 6


def test_a_run_that_another_process_took_is_left_to_it(copy: Path) -> None:
    def change(step: int) -> None:
        if step == 3:
            (copy.parent / "run" / "lock").unlink()
            train(copy, "run", _stop_after_four)

    def _stop_after_four(step: int) -> None:
        if step == 4:
            raise StopTraining

    with pytest.raises(RunTakenError, match="was taken over by another process"):
        train(copy, "run", change)
    assert saved(copy, "run")[0] == 4


def test_a_bundle_that_is_opened_twice_is_read_once_each(copy: Path) -> None:
    assert Bundle.open(copy).read("plan.json") == (copy / "plan.json").read_bytes()
