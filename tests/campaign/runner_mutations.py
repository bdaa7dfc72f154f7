# SPDX-License-Identifier: Apache-2.0
"""Changed files against gsqc-step, and the libFuzzer targets.

The long form runs gsqc-step under AddressSanitizer and UBSan.
"""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

from gsqc.targets.llvm.sources import FOLDER
from tests.campaign import mutators
from tests.campaign.kinds import Kind, write_known
from tests.campaign.place import Place
from tests.campaign.readers import REAL
from tests.campaign.report import Report

SECONDS = 30
RUNS = re.compile(rb"^Done (\d+) runs", re.MULTILINE)


def runner_kinds() -> list[Kind]:
    """The files that gsqc-step reads. No command of gsqc reads them here."""
    json_, safetensors = mutators.change_json, mutators.change_safetensors
    return [
        Kind("C: manifest", f"{REAL}/manifest.json", json_, (), weight=3),
        Kind("C: plan", f"{REAL}/plan.json", json_, (), weight=3, write=write_known),
        Kind("C: base", f"{REAL}/base.safetensors", safetensors, (), write=write_known),
        Kind("C: initial state", f"{REAL}/state.safetensors", safetensors, (), write=write_known),
        Kind("C: config.json", "steps/config.json", json_, ()),
        Kind("C: log.jsonl", "steps/log.jsonl", mutators.change_jsonl, (), weight=0.5),
        Kind("C: state", "steps/state.safetensors", safetensors, (), weight=2),
        Kind("C: token file", "tokens.safetensors", safetensors, (), weight=3),
    ]


def build_sanitised(folder: Path) -> Path:
    """gsqc-step with AddressSanitizer and UBSan."""
    make = ["make", "-s", "-C", str(FOLDER), f"OUT={folder.resolve()}", "sanitised"]
    subprocess.run(make, check=True)
    return folder.resolve() / "gsqc-step-sanitised"


def judge_program(program: Path, place: Place, run: str) -> tuple[str, str]:
    """How gsqc-step ends: a step, a sentence, or a failure."""
    arguments = [REAL, "--tokens", "tokens.safetensors", "--run", run, "--threads", "1"]
    try:
        done = subprocess.run(
            [str(program), *arguments],
            cwd=place.root,
            capture_output=True,
            check=False,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "hang", f"no end in {SECONDS} s"
    said = done.stderr.decode(errors="replace")
    if done.returncode == 0:
        return "succeeded", ""
    if done.returncode == 2 and said.startswith("error: ") and said.count("\n") == 1:
        return "refused", ""
    return "crash", f"exit {done.returncode}: {said[:300]!r}"


def run_kind(kind: Kind, place: Place, program: Path, seed: int, count: int) -> Report:
    """So many cases of a kind. The first one meets the file as it is."""
    report, path = Report(), place.root / kind.file
    run = "steps" if kind.file.startswith("steps/") else "new"
    for case in range(count):
        place.restore()
        if case:
            rng = random.Random(f"{seed}/{kind.name}/{case}")
            kind.write(path, kind.change(place.whole[path], rng))
        outcome, why = judge_program(program, place, run)
        if not case and outcome != "succeeded":
            outcome, why = "lost", f"the whole file: {outcome} {why}"
        report.add(kind.name, outcome, f"case {case}, seed {seed}: {why}")
    place.restore()
    return report


def fuzz(folder: Path, seconds: int) -> Report:
    """The libFuzzer targets, each for some seconds. They need clang."""
    report = Report()
    command = ["make", "-C", str(FOLDER), f"OUT={folder.resolve()}", f"SECONDS={seconds}", "fuzz"]
    done = subprocess.run(command, capture_output=True, check=False)
    said = done.stdout + done.stderr
    for runs in RUNS.findall(said):
        report.add("C: libFuzzer", "succeeded", count=int(runs))
    if done.returncode:
        report.add("C: libFuzzer", "crash", said[-500:].decode(errors="replace"))
    return report
