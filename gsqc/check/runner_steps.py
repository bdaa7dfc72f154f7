# SPDX-License-Identifier: Apache-2.0
"""RunnerStepper: steps in gsqc-step, the runner without Python, for targets of other machines."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.tensor_file import MappedTensors
from gsqc.check.traced import StepRecord
from gsqc.data import TokenSequence
from gsqc.errors import TargetError
from gsqc.files.reading import open_file, read_file
from gsqc.training.options import TrainOptions
from gsqc.training.token_file import write_token_file

Array = npt.NDArray[Any]


class RunnerStepper:
    """Takes all steps in one process of gsqc-step, which starts when a digest is first asked for.

    `command` runs the program. `batches` holds the sequences of each step. `folder` takes the token
    file and the runs.
    """

    def __init__(
        self,
        bundle: Path,
        command: list[str],
        batches: Sequence[Sequence[TokenSequence]],
        rate: str,
        folder: Path,
    ) -> None:
        """Write the token file. Nothing runs yet."""
        self.bundle, self.command, self.folder, self.steps = bundle, command, folder, len(batches)
        self.digests: list[str] = []
        folder.mkdir()
        self.tokens = folder / "tokens.safetensors"
        sequences = [s for batch in batches for s in batch]
        size = len(batches[0])
        order = [list(range(k * size, (k + 1) * size)) for k in range(len(batches))]
        opened = Bundle.open(bundle)
        options = TrainOptions(self.steps, rate, batch=size)
        write_token_file(self.tokens, opened, sequences, order, options, options.settings(size))

    def _run(self, steps: int, run: Path | None = None, *options: str) -> tuple[Path, list[str]]:
        """Run until `run`, or a run of its own, has so many steps: the run and the digests."""
        run = run or self.folder / f"steps-{steps}"
        arguments = [
            str(self.bundle),
            "--tokens",
            str(self.tokens),
            "--run",
            str(run),
            "--steps",
            str(steps),
            *options,
        ]
        done = subprocess.run(
            [*self.command, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            first = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[0]
            raise TargetError(f"gsqc-step failed: {first}", "run it by hand: docs/runner.md")
        return run, [line.split()[-1] for line in done.stdout.splitlines()]

    def digest(self, step: int) -> str:
        """The digest after a step."""
        if not self.digests:
            _, self.digests = self._run(self.steps)
        return self.digests[step - 1]

    def state(self, step: int) -> dict[str, Array]:
        """The state after a step, by name."""
        run = self.folder / f"steps-{step}"
        if not run.exists():
            self._run(step)
        with open_file(run / "state.safetensors", links=False) as file:
            return dict(MappedTensors(file))

    def _step_traced(self, step: int, *options: str) -> Path:
        """Take a step once more from the state before it: the file of its trace."""
        run, file = self.folder / f"traced-{step}", self.folder / f"trace-{step}"
        shutil.rmtree(run, ignore_errors=True)
        if step > 1:
            self.state(step - 1)
            shutil.copytree(self.folder / f"steps-{step - 1}", run)
        self._run(step, run, "--trace", str(file), *options)
        return file

    def trace(self, step: int) -> StepRecord:
        """The calls of a step."""
        return StepRecord.read(self._step_traced(step))

    def call_values(self, step: int, call: int) -> bytes:
        """The results of a call of a step."""
        file = self._step_traced(step, "--trace-call", str(call))
        return read_file(file.with_name(f"{file.name}.values"))
