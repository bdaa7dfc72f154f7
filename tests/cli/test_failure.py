# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong is one line and an exit code: no traceback, and nothing that was saved lost.

Each program starts as the installed one does. A session without kernels stands for the real one.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import gsqc.cli.app
from gsqc.cli.main import main
from gsqc.training.interruption import ONE_SIGNAL_SECONDS
from tests.cli.run_command import Capture, run_json, run_text
from tests.cli.train_command import arguments, log

RUN = "from gsqc.cli.main import run; run()"
FAKE = (
    "import gsqc.training.open_run as opened, gsqc.cli.process as process;"
    "from tests.runtime.small_bundle import FakeSession;"
    "opened.Session = FakeSession;"
)
STUCK = (
    "import ctypes\nfrom gsqc.cli.main import run\n"
    "def wait(*_):\n"
    "    lock = ctypes.create_string_buffer(64)\n"
    "    for _ in range(2):\n"
    "        ctypes.CDLL(None).pthread_mutex_lock(lock)\n"
)
"""A call of compiled code that never ends: a lock that is taken twice."""


def shell(line: str, *program: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $@ is the program."""
    command = ["bash", "-c", line, "bash", sys.executable, "-c", *program]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def start(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ('"$@" --version >/dev/full', 1, "cannot write to standard output: No space left"),
        ('"$@" --help >/dev/full', 1, "cannot write to standard output: No space left"),
        ('"$@" targets --json >/dev/full', 1, "cannot write to standard output: No space left"),
        ('"$@" --version >&-', 1, "cannot write to standard output: Bad file"),
        ('"$@" inspect absent --json >/dev/full', 2, "error: no such bundle: absent"),
        ('"$@" inspect absent --json >/dev/full 2>/dev/full', 2, ""),
        ('"$@" inspect absent >&- 2>&-', 2, ""),
    ],
)
def test_output_that_cannot_be_written(line: str, code: int, error: str) -> None:
    done = shell(line, RUN)
    assert done.returncode == code, done.stderr
    assert error in done.stderr
    assert done.stderr.count("\n") == bool(error)


def test_a_reader_that_goes_away_loses_no_step(place: Path) -> None:
    done = shell('set -o pipefail; "$@" | head -1', FAKE + RUN, *arguments(place, 2000))
    assert done.returncode in (1, 141)
    assert (done.stderr, done.stdout.count("\n")) == ("", 1)
    steps = len(log(place))
    assert 0 < steps < 2000
    assert main([*arguments(place, steps + 1), "--json"]) == 0
    assert len(log(place)) == steps + 1


def test_names_that_are_no_text_and_a_terminal_of_ascii() -> None:
    ascii_only = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"
    done = shell(ascii_only + " \"$@\" report $'a\\xff'", RUN)
    assert done.returncode == 2
    assert "is not a path in UTF-8" in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_while_the_program_is_imported() -> None:
    interrupt = (
        "import signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        name == 'typer' and signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    done = shell('"$@"', interrupt + RUN, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_where_none_can_be_raised() -> None:
    """Python drops what is raised in a finaliser, and what a callback of C raises too."""
    program = (
        "import signal, time, gsqc.cli.app\n"
        "class Finalised:\n"
        "    def __del__(self):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "def execute(*_, **__):\n"
        "    Finalised()\n"
        "    time.sleep(30)\n"
        "gsqc.cli.app.execute = execute\n"
    )
    done = shell('"$@"', program + RUN)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_ends_a_command_that_compiled_code_holds_up() -> None:
    program = STUCK + (
        "import gsqc.cli.app, gsqc.cli.process\n"
        "gsqc.cli.process.SECONDS_TO_END = 0.5\n"
        "def execute(*_, **__):\n"
        "    print('begins')\n"
        "    wait()\n"
        "gsqc.cli.app.execute = execute\n"
        "run()\n"
    )
    with start(program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_step_of_compiled_code(place: Path, number: int) -> None:
    """The first one is told at once, though the step does not end."""
    program = (
        STUCK
        + FAKE.replace(";", "\n")
        + (
            "step = FakeSession.step\n"
            "FakeSession.step = lambda s, *a: wait() if s.step_count == 3 else step(s, *a)\n"
            "run()\n"
        )
    )
    with start(program, *arguments(place, 9, save_every=1)) as process:
        state, wanted = place / "run" / "log.jsonl", 3
        while not state.exists() or len(log(place)) < wanted:
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(number)
        assert process.stdout is not None
        # The forecast was told before, so the warning is the next line that is one.
        told = next(line for line in process.stdout if line.startswith("warning: "))
        assert told.startswith("warning: stopping after this step (about "), told
        assert "a second signal stops at once" in told
        process.send_signal(number)
        time.sleep(ONE_SIGNAL_SECONDS + 0.1)
        assert process.poll() is None, "two signals within a moment are one"
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    assert main([*arguments(place, 9), "--json"]) == 0
    assert len(log(place)) == 9


def test_a_fault_of_ours_keeps_its_traceback(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(*_: Any, **__: Any) -> int:
        return 1 // 0

    monkeypatch.setattr(gsqc.cli.app, "execute", execute)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, out, err = run_text(capsys, "targets")
    assert (code, out, err.count("\n")) == (70, "", 1)
    assert err.startswith("error: gsqc has a fault: ZeroDivisionError: ")
    (kept,) = tmp_path.iterdir()
    assert str(kept) in err
    assert "return 1 // 0" in kept.read_text()
    code, (line,) = run_json(capsys, "targets")
    assert (code, set(line)) == (70, {"error", "hint"})
    monkeypatch.setenv("GSQC_TRACEBACK", "1")
    assert "Traceback" in run_text(capsys, "targets")[2]


@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["report"],
        ["compare", "x"],
        ["eval", "x", "--data", "x", "--run"],
        ["init"],
        ["train", "--config"],
        ["train", "--resume"],
        ["data", "--bundle", "x"],
    ],
)
@pytest.mark.parametrize("name", ["a" * 300, "a/" * 3000, "/dev/null/x", "a\udcff"])
def test_a_name_that_no_file_can_have_is_one_line(
    capsys: Capture, command: list[str], name: str
) -> None:
    code, out, err = run_text(capsys, *command, name)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    code, (line,) = run_json(capsys, *command, name)
    assert (code, set(line)) == (2, {"error", "hint"})
    json.dumps(line, ensure_ascii=False).encode()
