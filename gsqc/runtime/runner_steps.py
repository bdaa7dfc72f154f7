# SPDX-License-Identifier: Apache-2.0
"""Steps in gsqc-step, the runner without Python: for targets that are not this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gsqc.bundle import Bundle
from gsqc.errors import TargetError
from gsqc.runtime.data import TokenSequence
from gsqc.runtime.token_file import write_token_file
from gsqc.runtime.train_options import TrainOptions
from gsqc.tensor_file import MappedTensors

Array = npt.NDArray[Any]


class RunnerStepper:
    """All steps in one process of gsqc-step, started when the first digest is asked for.

    `command` runs the program, `batches` holds the sequences of each step, `folder` takes the token file and the runs.
    """

    def __init__(
        self, bundle: Path, command: list[str], batches: Sequence[Sequence[TokenSequence]], rate: str, folder: Path
    ) -> None:
        self.bundle, self.command, self.folder, self.steps = bundle, command, folder, len(batches)
        self.digests: list[str] = []
        folder.mkdir()
        self.tokens = folder / "tokens.safetensors"
        sequences = [s for batch in batches for s in batch]
        size = len(batches[0])
        order = [list(range(k * size, (k + 1) * size)) for k in range(len(batches))]
        opened = Bundle.open(bundle, check_machine=False)
        options = TrainOptions(self.steps, rate, batch=size)
        write_token_file(self.tokens, opened, sequences, order, options, options.settings(size))

    def _run(self, steps: int) -> tuple[Path, list[str]]:
        run = self.folder / f"steps-{steps}"
        arguments = [str(self.bundle), "--tokens", str(self.tokens), "--run", str(run), "--steps", str(steps)]
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False)
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
        return dict(MappedTensors(run / "state.safetensors"))
