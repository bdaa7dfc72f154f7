# SPDX-License-Identifier: Apache-2.0
"""Runs the commands on changed files. Each case ends with success or with one sentence.

The cases of a kind run in a forked process, which has what it imports already. It is replaced when
it dies or hangs. It may take MOST_BYTES more memory than it began with.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import gsqc.check.steppers
import gsqc.cli.evaluate
import gsqc.cli.generate
import gsqc.training.open_run
from gsqc.cli.main import main
from gsqc.errors import GsqcError
from gsqc.printable import printable
from tests.campaign.corpus import inside
from tests.campaign.kinds import Command, Kind
from tests.campaign.place import Place
from tests.campaign.readers import Reader
from tests.campaign.report import Report
from tests.runtime.small_bundle import FakeSession

SECONDS, WALL_SECONDS = 10, 60
"""Processor time of a case, and time by the clock for a busy machine."""
MOST_BYTES = 3 << 30
READER_SHARE = 0.8
"""Of the cases, where functions read what commands read."""
SESSIONS = (gsqc.training.open_run, gsqc.cli.generate, gsqc.cli.evaluate, gsqc.check.steppers)


def apply(kind: Kind, place: Place, seed: int, case: int) -> Command | Reader:
    """Change the file, and choose what meets it. The first cases meet the file as it is."""
    every = (*kind.readers, *kind.commands)
    if case < len(every):
        return every[case]
    rng, path = random.Random(f"{seed}/{kind.name}/{case}"), place.root / kind.file
    kind.write(path, kind.change(place.whole[path], rng))
    if kind.readers and rng.random() < READER_SHARE:
        return rng.choice(kind.readers)
    command = rng.choice(kind.commands)
    return (*command, "--json") if rng.random() < 0.3 else command


def where(error: BaseException) -> str:
    """The last line of ours that an exception passed, and what it says."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/gsqc/" in f.filename and "/cli/main.py" not in f.filename]
    frame = (ours or frames)[-1]
    name = frame.filename.rsplit("/gsqc/", 1)[-1]
    return f"{type(error).__name__} at {name}:{frame.lineno}: {str(error)[:120]!r}"


def _printed_place(text: str) -> str:
    """The last line of ours in a printed traceback."""
    places = re.findall(r'File "[^"]*/gsqc/([^"]+)", line (\d+)', text)
    return ":".join(places[-1]) if places else "no traceback"


def judge(command: Command | Reader, output: Path) -> tuple[str, str]:
    """The outcome of a command, and what is wrong with it. Its prints are in `output`."""
    try:
        code = main(command) if isinstance(command, tuple) else _read(command)
    except BaseException as error:
        return "traceback", where(error)
    sys.stdout.flush()
    sys.stderr.flush()
    text = output.read_text(errors="replace")
    if "Traceback" in text or code not in (0, 1, 2):
        return "traceback", f"exit {code}, {_printed_place(text)}: {text[-300:]!r}"
    is_text = isinstance(command, tuple) and "--json" not in command
    if code == 2 and is_text and not text.splitlines()[-1].startswith("error: "):
        return "traceback", f"no sentence: {text[-300:]!r}"
    return ("refused" if code == 2 else "succeeded"), ""


def _read(reader: Reader) -> int:
    try:
        reader()
    except GsqcError as error:
        print(f"error: {printable(str(error))}; {error.hint}", file=sys.stderr)
        return 2 if str(error) and error.hint else 3  # it says what is wrong, and what to do
    return 0


@contextlib.contextmanager
def sessions(kind: Kind) -> Iterator[None]:
    """FakeSession in place of Session, if the kind says so."""
    with contextlib.ExitStack() as stack:
        for module in SESSIONS if kind.fake else ():
            stack.enter_context(mock.patch.object(module, "Session", FakeSession))
        yield


def _redirect(output: Path) -> None:
    descriptor = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # lives to the end
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work(kind: Kind, place: Place, seed: int, cases: range, pipe: int) -> None:
    """Run cases in this forked process, and say how each ended."""
    output = place.root.with_suffix(".out")
    _redirect(output)
    _limit_memory()
    with sessions(kind), inside(place.root):
        for case in cases:
            place.restore()
            os.write(pipe, b"{}\n")
            os.truncate(output, 0)
            outcome, why = judge(apply(kind, place, seed, case), output)
            if outcome == "refused" and case < len(kind.readers) + len(kind.commands):
                outcome = "refused" if not kind.accepts else "lost"
                why = f"the whole file is refused: {output.read_text()[-300:]!r}"
            os.write(pipe, json.dumps([outcome, why]).encode() + b"\n")


@dataclass
class _Child:
    """A forked process that works, and what it said last."""

    pid: int
    pipe: int
    pending: bytes = b""
    began: float = 0.0
    cpu: float = 0.0

    def cpu_seconds(self) -> float:
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return self.cpu

    def lines(self) -> Iterator[Any]:
        """What it says. None stands for nothing new, and the end for its death."""
        while True:
            if not select.select([self.pipe], [], [], 0.5)[0]:
                yield None
                continue
            part = os.read(self.pipe, 1 << 16)
            if not part:
                return
            *whole, self.pending = (self.pending + part).split(b"\n")
            yield from map(json.loads, whole)


def _fork(work: Callable[[int], None]) -> _Child:
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        os.setsid()
        code = 1
        try:
            work(theirs)
            code = 0
        finally:
            os._exit(code)
    os.close(theirs)
    return _Child(pid, ours, began=time.monotonic())


def _watch(child: _Child, kind: Kind, place: Place, seed: int, first: int, report: Report) -> int:
    """Count what a child says until it ends. Gives the next case."""
    case, ended = first, ""
    for line in child.lines():
        if line == {}:
            child.began, child.cpu = time.monotonic(), child.cpu_seconds()
        elif line is not None:
            outcome, why = line
            report.add(kind.name, outcome, f"case {case}, seed {seed}: {why}")
            case += 1
        elif (
            child.cpu_seconds() - child.cpu > SECONDS
            or time.monotonic() - child.began > WALL_SECONDS
        ):
            ended = "hang"
            os.killpg(child.pid, signal.SIGKILL)
    os.close(child.pipe)
    status = os.waitpid(child.pid, 0)[1]
    if status == 0:
        return case
    what = f"status {os.waitstatus_to_exitcode(status)}"
    with contextlib.suppress(OSError):
        what += f": {place.root.with_suffix('.out').read_text(errors='replace')[-200:]!r}"
    report.add(kind.name, ended or "crash", f"case {case}, seed {seed}: {what}")
    return case + 1


def run_kind(kind: Kind, place: Place, seed: int, count: int) -> Report:
    """So many cases of a kind."""
    report, case = Report(), 0
    while case < count:
        cases = range(case, count)
        child = _fork(lambda pipe, c=cases: _work(kind, place, seed, c, pipe))
        case = _watch(child, kind, place, seed, case, report)
    return report


def reproduce(kind: Kind, place: Place, seed: int, case: int) -> int:
    """One case in this process, with its traceback."""
    with sessions(kind), inside(place.root):
        command = apply(kind, place, seed, case)
        print(command, flush=True)
        return main(command) if isinstance(command, tuple) else _read(command)
