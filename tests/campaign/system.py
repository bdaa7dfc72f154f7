# SPDX-License-Identifier: Apache-2.0
"""Faults of the system and of strangers: full disks, odd files, a second process, signals.

A bundle or a run may hold anything in place of a file. No command may wait on it, and nothing
outside the directories that a command writes may change.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.faults import BROKEN, CLOSED, Ended, Fault, run_program
from tests.campaign.kills import Scene, copy_plain
from tests.campaign.report import Report
from tests.campaign.server import Server
from tests.campaign.writers import MORE, Writer

SENTINEL = b"a file of the user, which no command names"
RUN_FILES = ("config.json", "config.toml", "log.jsonl", "state.safetensors", "best.safetensors")
PLANTED = (
    *("lock", *(f".{name}.tmp" for name in RUN_FILES), *(f"{name}.tmp" for name in RUN_FILES)),
    "report.html",
)
"""Names in a run that a command may open to write."""
BUNDLE_FILES = ("manifest.json", "plan.json", "base.safetensors", "state.safetensors")
BUNDLE_FILES += ("tokenizer.json",)
MODEL_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
MODEL_FILES += ("model.safetensors", "chat_template.jinja")


def _fifo(path: Path, sentinel: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, sentinel: Path) -> None:
    path.mkdir()


def _link(path: Path, sentinel: Path) -> None:
    path.symlink_to(sentinel)


def _device(path: Path, sentinel: Path) -> None:
    path.symlink_to("/dev/zero")


def _circle(path: Path, sentinel: Path) -> None:
    path.symlink_to(path.name)


def _unreadable(path: Path, sentinel: Path) -> None:
    path.symlink_to("/proc/self/mem")  # the rights of a file do not stop root


ODD: dict[str, Callable[[Path, Path], None]] = {
    "FIFO": _fifo,
    "directory": _folder,
    "link": _link,
    "device": _device,
    "circle": _circle,
    "unreadable": _unreadable,
}
"""What may stand in the place of a file."""


@dataclass(frozen=True)
class Reads:
    """A directory whose files are replaced, and commands that read it."""

    folder: str
    files: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]


def readings(step: str) -> list[Reads]:
    """Every directory that a stranger may have made."""
    train = ("train", "b.gsqc", *MORE, "--run", "run", "--validation", "30%", "--eval-every", "1")
    steps = (step, "b.gsqc", "--tokens", "tokens.safetensors", "--run", "run")
    data = ("data", "data/a.jsonl", "--bundle")
    evaluate = ("eval", "b.gsqc", "--data", "data/a.jsonl")
    report = ("report", "run", "--no-measure")
    resume = ("train", "--resume", "run")
    runs = (train, resume, report, ("compare", "run", "run"), (*evaluate, "--run", "run"), steps)
    opens = (("inspect", "b.gsqc"), evaluate, (*data, "b.gsqc"), steps)
    peft = ("import", "b.gsqc", "--peft", "peft", "--run", "new")
    golden = ("check", "b.gsqc", "--golden", "golden.json", "--steps", "1")
    files = ("adapter_config.json", "adapter_model.safetensors")
    return [
        Reads("run", RUN_FILES, runs),
        Reads("run", PLANTED, runs),
        Reads("b.gsqc", BUNDLE_FILES, opens),
        Reads("model", MODEL_FILES, ((*data, "model"),)),
        Reads("data", ("a.jsonl",), (evaluate, train)),
        Reads("peft", files, (peft,)),
        Reads("", ("golden.json",), (golden, (*golden, "--update"))),
        Reads("", ("tokens.safetensors",), (steps,)),
        Reads("", ("tiny.gguf",), ((*data, "tiny.gguf"),)),
        Reads("", ("compile.toml",), (("compile", "--config", "compile.toml"),)),
    ]


class Place:
    """A directory to work in that is copied anew for each case, and a file outside it."""

    def __init__(self, corpus: Path, folder: Path, server: Server, library: Path) -> None:
        self.corpus, self.work, self.server, self.library = corpus, folder / "work", server, library
        self.sentinel = folder / "sentinel"

    def begin(self) -> None:
        """Put everything back."""
        shutil.rmtree(self.work, ignore_errors=True)
        copy_plain(self.corpus, self.work)
        self.sentinel.write_bytes(SENTINEL)

    def run(self, command: tuple[str, ...], fault: Fault | None = None) -> Ended:
        """Run gsqc, or gsqc-step if the command begins with its path."""
        fault = fault or Fault()
        if command[0].startswith("/"):
            return run_program(self.library, list(command), self.work, fault)
        return self.server.run(list(command), self.work, fault)

    def judge(self, ended: Ended, *, codes: tuple[int, ...] = (0, 1, 2)) -> tuple[str, str]:
        """The outcome, and what is wrong."""
        if self.sentinel.read_bytes() != SENTINEL:
            return "lost", "a file outside of the run was changed"
        if ended.hung:
            return "hang", "it does not end"
        if "Traceback" in ended.output or (ended.code > 2 and ended.code not in codes):
            return "traceback", f"exit {ended.code}: {ended.output[-200:]!r}"
        if ended.code not in codes:
            return "crash", f"exit {ended.code}: {ended.output[-200:]!r}"
        return ("succeeded" if ended.code == 0 else "refused"), ""


def odd_files(place: Place, step: str, count: int, rng: random.Random) -> Iterator[Report]:
    """So many cases of an odd file in the place of one that a command reads or writes."""
    every = [
        (reads, file, odd, command)
        for reads in readings(step)
        for file in reads.files
        for odd in ODD
        for command in reads.commands
    ]
    rng.shuffle(every)
    for reads, file, odd, command in every[:count]:
        place.begin()
        path = place.work / reads.folder / file
        path.unlink(missing_ok=True)
        ODD[odd](path, place.sentinel)
        outcome, why = place.judge(place.run(command))
        name = f"{reads.folder or 'file'}: {odd}"
        report = Report()
        report.add(f"system, {name}", outcome, f"{file}, gsqc {' '.join(command)}: {why}")
        yield report


def prints(place: Place, count: int, rng: random.Random) -> Report:
    """So many commands whose prints go to a full device, a closed stream, or a broken pipe."""
    report = Report()
    commands = [("inspect", "b.gsqc"), ("report", "run"), ("targets",), ("info",), ("--help",)]
    commands += [("compare", "run", "run"), ("data", "data/a.jsonl", "--bundle", "b.gsqc")]
    commands += [(*command, "--json") for command in commands if command != ("--help",)]
    commands += [("train", "b.gsqc", *MORE, "--run", "new"), ("inspect", "nowhere")]
    streams = {"/dev/full": 1, CLOSED: 1, BROKEN: 128 + signal.SIGPIPE}
    every = [(command, stream) for command in commands for stream in streams]
    rng.shuffle(every)
    for command, stream in every[:count]:
        place.begin()
        ended = place.run(command, Fault(stdout=stream))
        fails = 2 if "nowhere" in command else streams[stream]
        outcome, why = place.judge(ended, codes=(fails,))
        report.add(f"system, prints: {stream}", outcome, f"gsqc {' '.join(command)}: {why}")
    return report


def second_process(place: Place, step: str) -> Report:
    """A run whose lock another process holds: nothing may be written."""
    report = Report()
    runs = ("train", "b.gsqc", *MORE, "--run", "run")
    steps = (step, "b.gsqc", "--tokens", "tokens.safetensors", "--run", "run")
    for command in (runs, steps):
        place.begin()
        state = (place.work / "run/state.safetensors").read_bytes()
        with (place.work / "run/lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            ended = place.run(command)
        outcome, why = place.judge(ended, codes=(2,))
        if (place.work / "run/state.safetensors").read_bytes() != state:
            outcome, why = "lost", "the state was written without the lock"
        report.add("system, second process", outcome, f"{' '.join(command)}: {why}")
    return report


def _disturbances(seconds: float, count: int, rng: random.Random) -> Iterator[tuple[str, Fault]]:
    for _ in range(count):
        after = rng.uniform(0, seconds)
        number = rng.choice((signal.SIGINT, signal.SIGTERM))
        yield "signal", Fault(after=after, signal=number)
        yield "two signals", Fault(after=after, signal=number, signals=2)
        yield "largest file", Fault(most_bytes=rng.randrange(1, 9000))


def disturbed_training(scene: Scene, count: int, rng: random.Random) -> Report:
    """Signals and a bound on file sizes while a run trains, which then goes on to the same bits."""
    report = Report()
    for name, fault in _disturbances(scene.seconds, count, rng):
        scene.begin()
        ended = scene.run(scene.folder, fault)
        problem = None
        if ended.code in (130, 143, -signal.SIGINT, -signal.SIGTERM):
            ended = Ended(2, ended.calls, ended.call, ended.output, ended.hung)
        problem = scene.problem(ended)
        outcome = "refused" if ended.code else "succeeded"
        if problem is not None:
            outcome = "hang" if ended.hung else "traceback" if "Traceback" in problem else "lost"
        report.add(f"system, {name}, {scene.writer.name}", outcome, f"{fault}: {problem}")
    return report


def trainers(writers: list[Writer]) -> list[Writer]:
    """The commands that train."""
    return [writer for writer in writers if writer.trains]
