# SPDX-License-Identifier: Apache-2.0
"""The same steps with gsqc-step and with the Python runtime."""

from __future__ import annotations

import subprocess
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.data import load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.decimals import parse_fraction
from gsqc.runtime.session import Session
from gsqc.training.learning_rate import LearningRate

RATE = ["--lr=1e-2", "--warmup=3", "--schedule=linear", "--weight-decay=0.01", "--seed=5"]
STEPS = 10
STATE = "state.safetensors"


def program_of(bundle: Path) -> str:
    """The gsqc-step of a bundle that has one."""
    (program,) = bundle.glob("code/*/gsqc-step")
    return str(program)


def runner_command(bundle: Path, tokens: Path, run: Path) -> list[str]:
    """A bundle's own gsqc-step on a token file."""
    return [program_of(bundle), str(bundle), "--tokens", str(tokens), "--run", str(run)]


def train_arguments(bundle: Path, data: Path, run: Path) -> list[str]:
    """`gsqc train` with the settings of the token file `tokens`."""
    given = ["--data", str(data), "--steps", str(STEPS), *RATE, "--run", str(run)]
    return ["train", str(bundle), *given]


def run_step(command: list[str], bundle: Path, tokens: Path, run: Path, *options: str) -> list[str]:
    """The digests that gsqc-step prints."""
    arguments = [*command, str(bundle), "--tokens", str(tokens), "--run", str(run), *options]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split()[-1] for line in done.stdout.splitlines()]


def run_python(
    bundle: Path, data: Path, run: Path | None, first: int, last: int, target: str = "numpy"
) -> list[str]:
    """The digests of the same steps in a session. If there is a run, it is continued and saved."""
    opened = Bundle.open(bundle)
    session = Session(opened, run, target=target)
    assert session.step_count == first - 1
    batches = load_data(data, Tokenizer(opened), session.sequence_length).batches(
        session.batch, 5, first - 1
    )
    rates = LearningRate(parse_fraction("1e-2", "--lr", 1), STEPS, 3, "linear")
    decay = parse_fraction("0.01", "--weight-decay", 1)
    digests = [
        session.step(next(batches), rates.at(n), decay).digest for n in range(first, last + 1)
    ]
    if run is not None:
        session.save()
    return digests
