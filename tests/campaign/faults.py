# SPDX-License-Identifier: Apache-2.0
"""Runs programs whose n-th call that changes a file kills them, or fails. fault.c does it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

SOURCE = Path(__file__).with_name("fault.c")
COUNT, KILL_BEFORE, KILL_AFTER, FAIL_ONCE, FAIL_ON = range(5)
"""The modes of fault.c. FAIL_ON lets every later call fail too, as a full disk does."""
SECONDS = 240
CLOSED, BROKEN = "closed", "broken"


@dataclass(frozen=True)
class Fault:
    """What happens at call number `at`, counted from 1, or a signal `after` seconds.

    signals     how many signals, a tenth of a second apart
    most_bytes  the largest file that may be written, or 0 for any
    stdout      a file that takes what is printed, CLOSED, or BROKEN: a pipe that nobody reads
    """

    at: int = 0
    mode: int = COUNT
    error: int = 0
    after: float | None = None
    signal: int = signal.SIGKILL
    signals: int = 1
    most_bytes: int = 0
    stdout: str = ""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, or minus the signal that ended it.

    calls  how many calls that change files it made
    call   the name of the call at which something happened
    """

    code: int
    calls: int
    call: str
    output: str
    hung: bool = False

    @property
    def killed(self) -> bool:
        """Whether a kill of ours ended it."""
        return self.code == -signal.SIGKILL and not self.hung


def build_library(folder: Path) -> Path:
    """Compile fault.c."""
    library = folder / "fault.so"
    flags = ["-O1", "-shared", "-fPIC", "-Wall", "-Wextra"]
    subprocess.run(["cc", *flags, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def run_program(library: Path, arguments: list[str], folder: Path, fault: Fault) -> Ended:
    """Run a program in a directory with a fault."""
    said, theirs = os.pipe()
    how = f"{fault.at} {fault.mode} {fault.error} {theirs}"
    environment = os.environ | {"LD_PRELOAD": str(library), "GSQC_FAULT": how}
    with (folder / "output").open("w+b") as output:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs,),
            preexec_fn=partial(limit, fault),
        )
        os.close(theirs)
        hung = end_in_time(process.pid, lambda: process.poll() is None, fault)
        code = process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    (folder / "output").unlink()
    return ended_of(code, said, text, hung)


def limit(fault: Fault) -> None:
    """Bound this process, and send its prints elsewhere, as the fault says."""
    if fault.most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.most_bytes, fault.most_bytes))
    if fault.stdout == CLOSED:
        os.close(1)
    elif fault.stdout == BROKEN:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    elif fault.stdout:
        os.dup2(os.open(fault.stdout, os.O_WRONLY), 1)


def end_in_time(pid: int, runs: Callable[[], bool], fault: Fault) -> bool:
    """Send the fault's signals. Gives whether the process ran too long and was killed for it."""
    start, sent = time.monotonic(), 0
    while runs():
        passed = time.monotonic() - start
        wanted = 0 if fault.after is None else int((passed - fault.after) * 10) + 1
        with contextlib.suppress(ProcessLookupError):
            if sent < min(wanted, fault.signals):
                os.kill(pid, fault.signal)
                sent += 1
            elif passed > SECONDS:
                os.kill(pid, signal.SIGKILL)
                return True
        time.sleep(0.002)
    return False


def ended_of(code: int, pipe: int, text: str, hung: bool) -> Ended:
    """What a process said through fault.c."""
    with os.fdopen(pipe, "rb") as file:
        os.set_blocking(pipe, False)
        lines = (file.read() or b"").decode().splitlines()
    words = dict(line.split(" ", 1) for line in lines)
    return Ended(code, int(words.get("count", 0)), words.get("call", ""), text, hung)
