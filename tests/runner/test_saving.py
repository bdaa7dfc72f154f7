# SPDX-License-Identifier: Apache-2.0
"""gsqc-step loses no step that can be saved: full disks, closed outputs, signals and locks."""

from __future__ import annotations

import fcntl
import json
import re
import resource
import signal
import subprocess
import termios
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from gsqc.runtime.session import Session
from tests.runner.steps import STATE, runner_command
from tests.runner.test_process import is_locked

SECONDS = 60
FEW_BYTES = 4096
"""Less than a state has."""


class Running:
    """gsqc-step that has made its first step."""

    def __init__(self, bundle: Path, tokens: Path, run: Path, *options: str) -> None:
        self.run = run
        self.process = subprocess.Popen(
            [*runner_command(bundle, tokens, run), "--threads", "1", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.lines = [self.process.stdout.readline()]

    def read_until(self, done: Callable[[], bool]) -> None:
        """Let it make steps."""
        assert self.process.stdout is not None
        while not done():
            line = self.process.stdout.readline()
            assert line, self.process.communicate()[1]
            self.lines.append(line)

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Its exit code and what it said on stderr, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        rest, text = self.process.communicate(timeout=SECONDS)
        self.lines += rest.splitlines()
        return self.process.returncode, text


def saved(bundle: Path, run: Path) -> tuple[int, str]:
    """The saved step and its digest."""
    session = Session(bundle, run, target="numpy")
    return session.step_count, session.digest()


def logged(run: Path) -> list[str]:
    """The digests in the log, whose steps are 1, 2, and so on."""
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in entries] == list(range(1, len(entries) + 1))
    return [e["digest"] for e in entries]


def failed(command: list[str], **how: Any) -> str:
    """The sentence of a gsqc-step that ends with exit code 2."""
    given = {"stdout": subprocess.PIPE, **how}
    done = subprocess.run(
        command, stderr=subprocess.PIPE, text=True, check=False, timeout=SECONDS, **given
    )
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.splitlines()[-1].startswith("error: "), done.stderr
    return done.stderr


def test_a_closed_pipe_saves(bundle: Path, many: Path, tmp_path: Path) -> None:
    running = Running(bundle, many, tmp_path / "run")
    assert running.process.stdout is not None
    running.process.stdout.close()
    running.process.stdout = None
    assert running.process.stderr is not None
    text = running.process.stderr.read()
    assert (running.process.wait(SECONDS), text.count("\n")) == (2, 1), text
    assert "cannot write to standard output: Broken pipe; the state is saved" in text
    digests = logged(running.run)
    assert saved(bundle, running.run) == (len(digests), digests[-1])


@pytest.mark.parametrize("how", ["full", "closed"])
def test_an_output_that_cannot_be_written_saves(
    bundle: Path, tokens: Path, tmp_path: Path, how: str
) -> None:
    """If it is closed, no file of the run gets its number."""
    command = runner_command(bundle, tokens, tmp_path / "run")
    if how == "full":
        with open("/dev/full", "w") as full:
            text = failed(command, stdout=full)
    else:
        text = failed(["sh", "-c", 'exec "$@" >&-', "sh", *command])
    assert "cannot write to standard output" in text and "the state is saved" in text
    assert saved(bundle, tmp_path / "run") == (1, logged(tmp_path / "run")[0])
    assert (tmp_path / "run" / "lock").read_text().strip().isdigit()


def test_help_on_a_full_disk_is_an_error(bundle: Path, tokens: Path, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        program = runner_command(bundle, tokens, tmp_path)[0]
        assert "No space left" in failed([program, "--help"], stdout=full)


def test_the_last_save_must_succeed(bundle: Path, many: Path, tmp_path: Path) -> None:
    """A limit of the size of files is a full disk, not the end of the process."""
    running = Running(bundle, many, tmp_path / "run", "--save-every", "100000")
    _, most = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (FEW_BYTES, most))
    code, text = running.end(signal.SIGTERM)
    assert (code, "error: disk full while saving" in text) == (2, True), text
    assert "File too large" in text and not list(running.run.glob(".*.tmp"))


def test_a_limit_before_the_first_step_is_a_sentence(
    bundle: Path, tokens: Path, tmp_path: Path
) -> None:
    """The private copy of the kernels counts too."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    text = failed(runner_command(bundle, tokens, tmp_path / "run"), preexec_fn=limit)
    assert "cannot load kernels.so: File too large" in text


def test_a_save_that_fails_is_tried_again(bundle: Path, many: Path, tmp_path: Path) -> None:
    """The run warns and goes on, and neither a step nor a line of the log is lost."""
    running = Running(bundle, many, tmp_path / "run", "--save-every", "5")
    number = running.process.pid
    _, most = resource.prlimit(number, resource.RLIMIT_FSIZE)
    resource.prlimit(number, resource.RLIMIT_FSIZE, (100, most))
    running.read_until(lambda: len(running.lines) > 20)
    resource.prlimit(number, resource.RLIMIT_FSIZE, (most, most))
    code, text = running.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, text
    for name in (STATE, "log.jsonl"):
        assert re.search(f"warning: disk full while saving .*{name}: .* tries again\n", text), text
    digests = logged(running.run)
    assert digests == [line.split()[-1] for line in running.lines]
    assert saved(bundle, running.run) == (len(digests), digests[-1])


def test_the_lock_holds_though_its_file_is_deleted(
    bundle: Path, many: Path, tmp_path: Path
) -> None:
    running = Running(bundle, many, tmp_path / "run", "--save-every", "5")
    lock = running.run / "lock"
    lock.unlink()
    running.read_until(lock.exists)
    assert is_locked(lock)
    assert lock.read_text().strip() == str(running.process.pid)
    assert running.end(signal.SIGTERM)[0] == 128 + signal.SIGTERM
    digests = logged(running.run)
    assert saved(bundle, running.run) == (len(digests), digests[-1])


def test_a_run_that_another_process_took_is_not_saved(
    bundle: Path, many: Path, tmp_path: Path
) -> None:
    running = Running(bundle, many, tmp_path / "run", "--save-every", "100000")
    running.process.send_signal(signal.SIGSTOP)
    lock = running.run / "lock"
    lock.unlink()
    holder = subprocess.Popen(["flock", "--no-fork", str(lock), "sleep", "60"])
    try:
        while not lock.exists() or not is_locked(lock):
            assert holder.poll() is None
        running.process.send_signal(signal.SIGCONT)
        code, text = running.end(signal.SIGTERM)
    finally:
        holder.kill()
        holder.wait()
    assert (code, "another process has the run" in text) == (2, True), text
    assert not (running.run / STATE).exists()


def test_a_state_that_another_process_saved_is_kept(
    bundle: Path, many: Path, tmp_path: Path
) -> None:
    """It took the run, and has ended since."""
    running = Running(bundle, many, tmp_path / "run", "--save-every", "100000")
    (running.run / "lock").unlink()
    (running.run / STATE).write_bytes(b"of another process")
    code, text = running.end(signal.SIGTERM)
    assert (code, "another process has saved steps there" in text) == (2, True), text
    assert (running.run / STATE).read_bytes() == b"of another process"


def test_the_first_signal_tells_how_long_a_step_takes(
    bundle: Path, many: Path, tmp_path: Path
) -> None:
    code, text = Running(bundle, many, tmp_path).end(signal.SIGINT)
    expected = r"stopping after this step(, about [0-9.]+ s)?; a second signal stops at once\n"
    assert code == 128 + signal.SIGINT and re.fullmatch(expected, text), text


def test_two_signals_within_a_moment_are_one(bundle: Path, many: Path, tmp_path: Path) -> None:
    """`timeout` sends its signal to the process, and then to its group."""
    running = Running(bundle, many, tmp_path / "run", "--save-every", "100000")
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT):
        running.process.send_signal(number)
    assert running.end(signal.SIGCONT)[0] in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert (running.run / STATE).exists()


def test_the_second_signal_ends_at_once(bundle: Path, many: Path, tmp_path: Path) -> None:
    """Even while it waits for whoever reads its output."""
    running = Running(bundle, many, tmp_path / "run", "--save-every", "100000")
    wait_until_full(running.process.stdout)
    running.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert running.process.poll() is None
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(SECONDS) == 128 + signal.SIGINT
    assert not (running.run / STATE).exists()


def wait_until_full(pipe: IO[str] | None) -> None:
    """Wait until a pipe takes no more."""
    assert pipe is not None
    held, before = array("i", [0]), -1
    while held[0] != before or not before:
        before = held[0]
        time.sleep(1)
        fcntl.ioctl(pipe, termios.FIONREAD, held)
