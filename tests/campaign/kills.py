# SPDX-License-Identifier: Apache-2.0
"""Kills every command that writes, at random moments and at each call that changes a file.

The same calls also fail, as on a full or broken disk. After each kill or failure:

* what the command writes is as it was before, or complete;
* a saved step is still there;
* the same command again succeeds, with the bits of a run that nothing interrupted;
* no temporary file is left.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open

from gsqc.data.token_cache import TOKENS
from tests.campaign.corpus import FURTHER
from tests.campaign.faults import (
    COUNT,
    FAIL_ON,
    FAIL_ONCE,
    KILL_AFTER,
    KILL_BEFORE,
    Ended,
    Fault,
    run_program,
)
from tests.campaign.report import Report
from tests.campaign.server import Server
from tests.campaign.writers import Writer

Tree = dict[str, str]
"""What stands at each path below a directory, as far as it is the same each time."""
Run = Callable[[Path, Fault], Ended]
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT)


def _content(path: Path) -> str:
    """What is the same each time in a file: no times, no process ids, no speeds."""
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if path.name == "lock":
        return "lock"
    content = path.read_bytes()
    if path.name == "log.jsonl":
        lines = [json.loads(line) for line in content.splitlines()]
        return str([(line["step"], line.get("loss"), line.get("digest")) for line in lines])
    if path.name == "manifest.json":
        return _manifest(content)
    if path.suffix == ".html":
        return str(content.rstrip().endswith(b"</html>"))
    return hashlib.sha256(content).hexdigest()


def _manifest(content: bytes) -> str:
    """A manifest without its first digests: numpy may take them where no code can be written."""
    try:
        return str(json.loads(content) | {"golden": None})
    except ValueError:
        return f"not JSON: {content!r}"


def tree_of(folder: Path, below: str = "") -> Tree:
    """The files below a directory, or the file that it is."""
    start = folder / below
    found = [start] if start.is_file() else sorted(p for p in start.rglob("*") if not p.is_dir())
    return {path.relative_to(folder).as_posix(): _content(path) for path in found}


def copy_or_link(source: str, target: str) -> None:
    """A copy, or a link where the file is large and nothing writes into it."""
    copy = os.link if source.endswith((".tosa", ".so", "gsqc-step")) else shutil.copyfile
    copy(source, target)


def copy_plain(corpus: Path, target: Path) -> None:
    """A copy of the corpus without the further models, which no command here reads."""
    further = shutil.ignore_patterns(*FURTHER)
    shutil.copytree(corpus, target, ignore=further, copy_function=copy_or_link)


class Scene:
    """A writer in a directory of its own, and what comes of it if nothing interrupts it."""

    def __init__(self, writer: Writer, corpus: Path, folder: Path, server: Server, library: Path):
        """Prepare the directory, and run the writer once to the end."""
        self.writer, self.start, self.folder = writer, folder / "start", folder / "work"
        self.run: Run = (
            partial(self._program, library) if writer.program else partial(self._command, server)
        )
        shutil.rmtree(folder, ignore_errors=True)
        copy_plain(corpus, self.start)
        (self.start / "out").mkdir()
        for arguments in writer.before:
            ended = server.run(arguments, self.start, Fault())
            assert ended.code == 0, (arguments, ended)
        self.begin()
        self.first = tree_of(self.folder)
        start = time.monotonic()
        self.whole = self.run(self.folder, Fault(1, COUNT))
        self.seconds = time.monotonic() - start
        assert self.whole.code == 0, (writer.name, self.whole)
        self.last = tree_of(self.folder)

    def _program(self, library: Path, folder: Path, fault: Fault) -> Ended:
        return run_program(library, self.writer.arguments, folder, fault)

    def _command(self, server: Server, folder: Path, fault: Fault) -> Ended:
        return server.run(self.writer.arguments, folder, fault)

    def begin(self) -> None:
        """Make the directory as it is before the command."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.start, self.folder, copy_function=copy_or_link)

    def problem(self, ended: Ended) -> str | None:
        """What is wrong after an interrupted command and after the same command again."""
        if ended.hung:
            return "it does not end"
        if not ended.killed and (ended.code not in (0, 2) or "Traceback" in ended.output):
            return f"it ends with {ended.code}: {ended.output[-300:]}"
        if (lost := self._lost()) is not None:
            return lost
        again = self.run(self.folder, Fault(1, COUNT))
        if again.code != 0 and not self._is_complete(again):
            return f"the same command again ends with {again.code}: {again.output[-300:]}"
        now = tree_of(self.folder)
        names = {*now, *self.last} - {n for n in self.last if _is_kept_tokens(n) and n not in now}
        wrong = sorted(n for n in names if now.get(n) != self.last.get(n))
        return (
            f"after the same command again these differ: {', '.join(wrong[:4])}" if wrong else None
        )

    def _is_complete(self, again: Ended) -> bool:
        """Whether the command refuses because the first one had finished its work."""
        return again.code == 2 and tree_of(self.folder) == self.last

    def _lost(self) -> str | None:
        """What the interruption lost."""
        if self.writer.trains:
            return self._lost_state()
        for output in self.writer.outputs:
            now = tree_of(self.folder, output)
            before = {n: t for n, t in self.first.items() if self._is_of(n, output)}
            after = {n: t for n, t in self.last.items() if self._is_of(n, output)}
            if now not in (before, after):
                return f"{output} is neither the old nor the new one"
        return None

    @staticmethod
    def _is_of(name: str, output: str) -> bool:
        return name == output or name.startswith(f"{output}/")

    def _lost_state(self) -> str | None:
        """A saved state must load, and the log must name its step before it is resumed."""
        state, log = (self.folder / "new" / name for name in ("state.safetensors", "log.jsonl"))
        logged = [json.loads(line)["step"] for line in _whole_lines(log)]
        if not state.exists():
            return f"step {max(logged)} is lost" if max(logged, default=0) > 1 else None
        try:
            with safe_open(state, framework="numpy") as file:
                step = int(file.metadata()["step"])
        except (SafetensorError, ValueError, KeyError) as error:
            return f"the saved state cannot be read: {error}"
        return f"step {step} was saved, and {max(logged)} ran" if step < max(logged) - 1 else None


def _is_kept_tokens(name: str) -> bool:
    """Whether a file only saves reading the data again. A full disk may prevent it."""
    return name.rsplit("/", 1)[-1] == TOKENS


def _whole_lines(path: Path) -> list[bytes]:
    """The complete lines of a log."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def faults(calls: int, count: int, seconds: float, rng: random.Random) -> Iterator[Fault]:
    """A kill before and after each call and each error at it, then kills at random moments.

    `count` of them, evenly spread if there are more.
    """
    modes = [(KILL_BEFORE, 0), (KILL_AFTER, 0), (FAIL_ONCE, errno.ENOSPC), (FAIL_ON, errno.ENOSPC)]
    modes += [(FAIL_ONCE, error) for error in ERRORS[1:]]
    every = [Fault(at, mode, error) for mode, error in modes for at in range(1, calls + 1)]
    every += [Fault(0, COUNT, 0, rng.uniform(0, seconds)) for _ in range(max(8, calls))]
    rng.shuffle(every)
    yield from every[:count]


def run_writer(scene: Scene, count: int, rng: random.Random) -> Report:
    """So many kills and failures of a writer."""
    report, name = Report(), f"kill {scene.writer.name}"
    for fault in faults(scene.whole.calls, count, scene.seconds, rng):
        scene.begin()
        ended = scene.run(scene.folder, fault)
        outcome = "killed" if ended.killed else "refused" if ended.code else "succeeded"
        problem = scene.problem(ended)
        if problem is not None:
            outcome = "hang" if ended.hung else "traceback" if "Traceback" in problem else "lost"
        report.add(name, outcome, f"{fault} at {ended.call or 'a moment'}: {problem}")
    return report
