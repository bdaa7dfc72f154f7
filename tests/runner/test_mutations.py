# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile files: the Python runtime and gsqc-step accept the same ones, and neither
crashes, hangs or prints a traceback.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import meaning_of
from gsqc.bundle.manifest import Manifest
from gsqc.bundle.tensor_file import MappedTensors
from gsqc.data import TokenSequence
from gsqc.decimals import parse_fraction
from gsqc.errors import GsqcError
from gsqc.files.reading import open_file
from gsqc.runtime.requirements import SEQUENCE_INPUTS
from gsqc.runtime.session import Session
from gsqc.training.learning_rate import LearningRate
from gsqc.training.open_run import check_resume
from tests.runner.mutations import mutate
from tests.runner.steps import STEPS, program_of

MANIFEST, PLAN, CONFIG, STATE = "manifest.json", "plan.json", "config.json", "state.safetensors"
COUNTS = {MANIFEST: 112, PLAN: 160, CONFIG: 56, STATE: 80}
"""Changes of each file."""
SECONDS = 60


@dataclass
class Place:
    """A bundle and a run of one step that may be changed, and put back as they were."""

    bundle: Path
    run: Path
    tokens: Path
    whole: dict[Path, bytes]

    def restore(self) -> None:
        for path, content in self.whole.items():
            path.write_bytes(content)
        for path in self.run.iterdir():
            if path not in self.whole:
                path.unlink()

    def replace_plan(self, content: bytes) -> None:
        """A plan whose hash the manifest knows: what an attacker would do."""
        manifest = json.loads(self.whole[self.bundle / MANIFEST])
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        manifest["files"][PLAN] = entry
        (self.bundle / PLAN).write_bytes(content)
        (self.bundle / MANIFEST).write_text(json.dumps(manifest))

    def adopt_run(self, meaning: str) -> None:
        """Make the run one of a bundle of this meaning."""
        before = json.loads(self.whole[self.run / CONFIG])["bundle"].encode()
        for name in (CONFIG, STATE):
            content = self.whole[self.run / name].replace(before, meaning.encode())
            (self.run / name).write_bytes(content)


@pytest.fixture(scope="module")
def place(bundle: Path, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("mutations")
    copy, run = root / "m.gsqc", root / "run"
    shutil.copytree(bundle, copy, copy_function=os.link)
    for name in (MANIFEST, PLAN):  # else the change would reach the shared bundle
        (copy / name).unlink()
        shutil.copyfile(bundle / name, copy / name)
    command = [program_of(bundle), str(copy), "--tokens", str(tokens)]
    subprocess.run([*command, "--run", str(run), "--steps", "1"], check=True, capture_output=True)
    files = [copy / MANIFEST, copy / PLAN, *run.iterdir()]
    return Place(copy, run, tokens, {path: path.read_bytes() for path in files})


def runner_verdict(place: Place, program: Path) -> str | None:
    """The digest after one more step, None if gsqc-step refuses, with a line that says why."""
    arguments = [str(place.bundle), "--tokens", str(place.tokens), "--run", str(place.run)]
    done = subprocess.run(
        [str(program), *arguments, "--steps", "2", "--threads", "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if done.returncode == 0:
        return done.stdout.split()[-1]
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return None


def python_verdict(place: Place, opened: Bundle | None = None) -> tuple[str | None, str]:
    """The same of the Python runtime, and why it refuses. Anything but a GsqcError is a failure."""
    try:
        opened = opened or Bundle.open(place.bundle)
        opened.file("tokenizer.json")
        session = Session(opened, place.run, threads=1)
        with open_file(place.tokens) as file:
            tensors = MappedTensors(file)
        check_resume(session, json.loads(tensors.metadata["settings"]))
        if session.step_count >= 2:
            return "nothing", ""
        length = session.sequence_length
        parts = [tensors[name].reshape(-1, length) for name in SEQUENCE_INPUTS]
        order = tensors["order"].reshape(STEPS, -1)[session.step_count]
        sequences = [TokenSequence(*(part[k] for part in parts)) for k in order]
        rates = LearningRate(parse_fraction("1e-2", "--lr", 1), STEPS, 3, "linear")
        rate = rates.at(session.step_count + 1)
        return session.step(sequences, rate, Fraction(1, 100)).digest, ""
    except GsqcError as error:
        return None, str(error)


def change_file(place: Place, name: str, seed: int) -> None:
    """Write a file with a change, and what depends on it by a hash."""
    if name == PLAN:
        place.replace_plan(mutate(place.whole[place.bundle / PLAN], seed))
        changed = Manifest.from_json(json.loads((place.bundle / MANIFEST).read_bytes()))
        place.adopt_run(meaning_of(changed.files))
    elif name == STATE:
        content = place.whole[place.run / STATE]
        end = 8 + int.from_bytes(content[:8], "little")
        header = mutate(content[8:end], seed)
        start = len(header).to_bytes(8, "little")
        (place.run / STATE).write_bytes(start + header + content[end:])
    else:
        folder = place.run if name == CONFIG else place.bundle
        (folder / name).write_bytes(mutate(place.whole[folder / name], seed))


def compare(place: Place, program: Path, name: str, seed: int, whole: Bundle) -> str | None:
    """What differs between the runtimes after a change of one file, None if nothing does.

    `whole` is the bundle as it was: it is not read again where the run alone is changed.
    """
    try:
        change_file(place, name, seed)
        ours, reason = python_verdict(place, whole if name in (CONFIG, STATE) else None)
        theirs = runner_verdict(place, program)
    finally:
        place.restore()
    both = ours is not None and theirs is not None
    if (ours is None) != (theirs is None) or (both and ours != theirs and ours != "nothing"):
        return f"{name} {seed}: Python {ours or reason}, gsqc-step {theirs or 'refuses'}"
    return f"{name} {seed}: two lines: {reason}" if "\n" in reason else None


@pytest.mark.parametrize("name", COUNTS)
def test_both_runtimes_give_the_same_verdict(place: Place, bundle: Path, name: str) -> None:
    program = Path(program_of(bundle))
    accepted = python_verdict(place)[0]
    assert accepted is not None and runner_verdict(place, program) == accepted
    place.restore()
    whole = Bundle.open(place.bundle)
    found = [compare(place, program, name, seed, whole) for seed in range(COUNTS[name])]
    assert not any(found), "\n".join(f for f in found if f)
