# SPDX-License-Identifier: Apache-2.0
"""Runs commands whose n-th call that changes a file kills them, or fails.

Commands of Python run in a server that has imported everything: `python -m tests.campaign.faults`
forks for each, which saves seconds. gsqc-step is started anew each time.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

SOURCE = Path(__file__).with_name("fault.c")
COUNT, KILL_BEFORE, KILL_AFTER, FAIL_ONCE, FAIL_ON = range(5)
"""The modes of fault.c. FAIL_ON lets every later call fail too, as a full disk does."""
SECONDS = 60
STARTED = b"ready\n"


@dataclass(frozen=True)
class Fault:
    """What happens at call number `at`, counted from 1, or a signal `after` seconds.

    signals     how many signals, a tenth of a second apart
    most_bytes  the largest file that may be written, or 0 for any
    stdout      a file that takes what is printed
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
            preexec_fn=partial(_limit, fault),
        )
        os.close(theirs)
        hung = _end_in_time(process.pid, lambda: process.poll() is None, fault)
        code = process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    (folder / "output").unlink()
    return _ended(code, said, text, hung)


def _limit(fault: Fault) -> None:
    """Bound this process, and send its prints elsewhere, as the fault says."""
    if fault.most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.most_bytes, fault.most_bytes))
    if fault.stdout:
        os.dup2(os.open(fault.stdout, os.O_WRONLY), 1)


def _end_in_time(pid: int, runs: Callable[[], bool], fault: Fault) -> bool:
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


def _ended(code: int, pipe: int, text: str, hung: bool) -> Ended:
    """What a process said through fault.c."""
    with os.fdopen(pipe, "rb") as file:
        os.set_blocking(pipe, False)
        lines = (file.read() or b"").decode().splitlines()
    words = dict(line.split(" ", 1) for line in lines)
    return Ended(code, int(words.get("count", 0)), words.get("call", ""), text, hung)


class Server:
    """A process with gsqc in it, under fault.c, that runs commands in forks of itself."""

    def __init__(self, library: Path) -> None:
        """Start it and wait until it has imported gsqc."""
        environment = os.environ | {"LD_PRELOAD": str(library), "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.faults"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._read() == STARTED

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def run(self, arguments: list[str], folder: Path, fault: Fault) -> Ended:
        """Run a command of gsqc in a directory with a fault."""
        assert self._process.stdin is not None
        job = {"arguments": arguments, "folder": str(folder), "fault": asdict(fault)}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._read()))

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()


def _serve() -> None:
    """Answer jobs until the end of input."""
    import gguf  # noqa: F401  # what the commands import, once
    import torch  # noqa: F401
    import transformers  # noqa: F401

    import gsqc.cli.main  # noqa: F401

    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    answers.write(STARTED)
    for line in sys.stdin:
        job = json.loads(line)
        ended = _fork(job["arguments"], Path(job["folder"]), Fault(**job["fault"]))
        answers.write(json.dumps(asdict(ended)).encode() + b"\n")


def _fork(arguments: list[str], folder: Path, fault: Fault) -> Ended:
    said, theirs = os.pipe()
    output = os.memfd_create("output")
    pid = os.fork()
    if pid == 0:
        _become(arguments, folder, fault, theirs, output)
    os.close(theirs)
    statuses: list[int] = []

    def runs() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            statuses.append(status)
        return not found

    hung = _end_in_time(pid, runs, fault)
    status = statuses[0] if statuses else os.waitpid(pid, 0)[1]
    os.lseek(output, 0, os.SEEK_SET)
    with os.fdopen(output, "rb") as file:
        text = file.read().decode(errors="replace")
    return _ended(os.waitstatus_to_exitcode(status), said, text, hung)


def _become(arguments: list[str], folder: Path, fault: Fault, said: int, output: int) -> None:
    """Run the command in this forked process, and end it."""
    from gsqc.cli.main import main

    code = 99
    try:
        for stream in (1, 2):
            os.dup2(output, stream)
        _limit(fault)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        os.chdir(folder)
        library = ctypes.CDLL(None)
        library.fault_arm(ctypes.c_long(fault.at), fault.mode, fault.error, said)
        code = main(arguments)
        library.fault_count.restype = ctypes.c_long
        calls = library.fault_count()
        library.fault_arm(ctypes.c_long(-1), 0, 0, -1)
        os.write(said, f"count {calls}\n".encode())
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        os.write(2, f"Traceback: {type(error).__name__}: {error}".encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
