# SPDX-License-Identifier: Apache-2.0
"""A process that has imported gsqc, and forks for each command. That saves seconds for each.

python -m tests.campaign.server [MODULE …]
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from tests.campaign.faults import CLOSED, Ended, Fault, end_in_time, ended_of, limit

STARTED = b"ready\n"
COMPILES = (
    *("accelerate", "networkx", "rich.progress", "torch._dynamo", "tvm"),
    *("gsqc.compiler.compile", "gsqc.models.readers.hf"),
)
"""What a command that compiles takes seconds to import."""


class Server:
    """A process with gsqc in it, under fault.c, that runs commands in forks of itself."""

    def __init__(self, library: Path, modules: tuple[str, ...] = ()) -> None:
        """Start it and wait until it has imported gsqc, and these modules too."""
        environment = os.environ | {"LD_PRELOAD": str(library), "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.server", *modules],
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

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def _serve() -> None:
    """Answer jobs until the end of input."""
    import gguf  # noqa: F401  # what the commands import, once
    import torch  # noqa: F401
    import transformers  # noqa: F401

    import gsqc.cli.main  # noqa: F401

    for name in sys.argv[1:]:
        importlib.import_module(name)
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

    hung = end_in_time(pid, runs, fault)
    status = statuses[0] if statuses else os.waitpid(pid, 0)[1]
    os.lseek(output, 0, os.SEEK_SET)
    with os.fdopen(output, "rb") as file:
        text = file.read().decode(errors="replace")
    return ended_of(os.waitstatus_to_exitcode(status), said, text, hung)


def _become(arguments: list[str], folder: Path, fault: Fault, said: int, output: int) -> None:
    """Run the command in this forked process as the installed program does, and end it."""
    from gsqc.cli.main import run

    code = 99
    try:
        for stream in (1, 2):
            os.dup2(output, stream)
        limit(fault)
        is_closed = fault.stdout == CLOSED
        sys.stdout = None if is_closed else open(1, "w", encoding="utf-8", closefd=False)  # type: ignore[assignment]  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
        sys.argv = ["gsqc", *arguments]
        os.chdir(folder)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        library = ctypes.CDLL(None)
        library.fault_count.restype = ctypes.c_long
        library.fault_arm(ctypes.c_long(fault.at), fault.mode, fault.error, said)
        try:
            run()
        except SystemExit as ended:
            code = int(ended.code or 0)
        calls = library.fault_count()
        library.fault_arm(ctypes.c_long(-1), 0, 0, -1)
        os.write(said, f"count {calls}\n".encode())
    except BaseException as error:
        os.write(2, f"Traceback: {type(error).__name__}: {error}".encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
