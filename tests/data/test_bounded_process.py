# SPDX-License-Identifier: Apache-2.0
"""A program that is endless, too large or ended is told by name, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gsqc.data.bounded_process import BoundedProcess, ProcessEnded

PROGRAM = """
import os
LIMITS = (1, 1 << 28)

class Program:
    def answer(self, request):
        exec(request["code"])
        return {"said": request["code"]}, b"12\\n3"

def open_program(begin):
    if begin:
        raise ValueError("it is refused")
    return Program()
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


def test_an_answer_and_the_bytes_behind_it(program: str) -> None:
    process = BoundedProcess(program, {})
    for code in ("pass", "'\u2028Ü'"):
        assert process.ask({"code": code}) == ({"said": code, "raw": 4}, b"12\n3")


def test_a_fork_leaves_the_process_alone(program: str) -> None:
    """Its finalizer would wait for the end of a process that is not its child."""
    process = BoundedProcess(program, {})
    forked = os.fork()
    if not forked:
        try:
            process.ask({"code": "pass"})
        except ProcessEnded as error:
            process.close()
            os._exit(0 if "forked" in str(error) else 1)
        os._exit(2)
    signal.alarm(60)
    try:
        assert os.waitpid(forked, 0)[1] == 0
    finally:
        signal.alarm(0)
    assert process.ask({"code": "pass"})[1]


def test_what_a_program_refuses(program: str) -> None:
    with pytest.raises(ValueError, match="it is refused"):
        BoundedProcess(program, {"a": 1})
    process = BoundedProcess(program, {})
    with pytest.raises(ValueError, match="not so"):
        process.ask({"code": "raise ValueError('not so')"})
    assert process.ask({"code": "pass"})[1]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("while True: pass", "more time than its limit"),
        ("b'a' * (1 << 29)", "exit code 1"),
        ("with open('f', 'w') as f: f.write('a')", "exit code 1|SIGXFSZ"),
        ("os._exit(3)", "exit code 3"),
        ("os.abort()", "signal SIGABRT"),
        ("os.write(1, b'{'); os._exit(0)", "exit code 0"),
    ],
)
def test_a_program_that_ends(
    program: str, code: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = BoundedProcess(program, {})
    with pytest.raises(ProcessEnded, match=reason):
        process.ask({"code": code})
    with pytest.raises(ProcessEnded):
        process.ask({"code": "pass"})
    assert not (tmp_path / "f").exists() or not (tmp_path / "f").read_bytes()


def test_a_process_that_was_closed(program: str) -> None:
    process = BoundedProcess(program, {})
    process.close()
    with pytest.raises(ProcessEnded, match="SIGKILL"):
        process.ask({"code": "pass"})


def test_it_ends_with_a_parent_that_is_killed(program: str) -> None:
    code = (
        "import sys; from gsqc.data.bounded_process import BoundedProcess; "
        "process = BoundedProcess(sys.argv[1], {}); print(process._process.pid, flush=True); "
        "input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    for _ in range(200):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the process is still there")


def test_ctrl_c_is_for_the_parent(program: str) -> None:
    process = BoundedProcess(program, {})
    os.kill(process._process.pid, signal.SIGINT)
    assert process.ask({"code": "pass"})[1] == b"12\n3"
