# SPDX-License-Identifier: Apache-2.0
"""gsqc-step as a process: the lock that it takes, the signals that it heeds, and what it needs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.cli.main import main
from gsqc.runtime.session import Session
from gsqc.targets.llvm.cpu import CPU_TARGETS
from gsqc.targets.llvm.runner import build_runner
from gsqc.training.lock import RunLock
from tests.runner.steps import program_of, runner_command, train_arguments


def is_locked(file: Path) -> bool:
    """Whether another process holds the lock."""
    return subprocess.run(["flock", "-n", str(file), "true"], check=False).returncode != 0


def test_one_process_trains_a_run(
    bundle: Path, data: Path, tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each runtime refuses a run that the other holds, and takes it when the holder is gone."""
    command = runner_command(bundle, tokens, tmp_path)
    lock = RunLock(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert f"is being trained by process {os.getpid()}" in done.stderr
    lock.release()
    holder = subprocess.Popen(["flock", "--no-fork", str(tmp_path / "lock"), "sleep", "60"])
    arguments = train_arguments(bundle, data, tmp_path)
    try:
        while not is_locked(tmp_path / "lock"):
            assert holder.poll() is None
        assert main(arguments) == 2
        assert "is being trained by" in capsys.readouterr().err
    finally:
        holder.kill()
        subprocess.run(["flock", str(tmp_path / "lock"), "true"], check=True)
    assert main(arguments) == 0


def test_a_signal_saves_whole_steps(bundle: Path, many: Path, tmp_path: Path) -> None:
    """It stops between steps, and what it printed is what it saved."""
    run = tmp_path / "run"
    command = runner_command(bundle, many, run)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        process.send_signal(signal.SIGTERM)
        lines += process.stdout.readlines()
    assert process.returncode == 128 + signal.SIGTERM
    session = Session(bundle, run)
    assert session.step_count == len(lines) < 5000
    assert session.digest() == lines[-1].split()[-1]


def test_the_runner_is_small_and_needs_libc_only(bundle: Path) -> None:
    program = Path(program_of(bundle))
    assert str(program.relative_to(bundle)) in Bundle.open(bundle).files
    assert os.access(program, os.X_OK)
    assert program.stat().st_size < 1_000_000
    needed = subprocess.run(
        ["readelf", "-d", str(program)], capture_output=True, text=True, check=True
    ).stdout
    libraries = {
        line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line
    }
    assert libraries <= {"libc.so.6", "libpthread.so.0", "libdl.so.2"}


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-gcc"), reason="needs gcc for aarch64")
def test_the_runner_for_aarch64_is_small() -> None:
    program = build_runner(replace(CPU_TARGETS["x86-64"], compiler=("aarch64-linux-gnu-gcc",)))
    assert program[18:20] == (183).to_bytes(2, "little"), "EM_AARCH64"
    assert len(program) < 1_000_000
