# SPDX-License-Identifier: Apache-2.0
"""A bundle of a tiny model: digests, losses against float, training against PEFT, exports."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.architectures.build import model_class
from benchmarks.architectures.families import Family
from benchmarks.architectures.llama_cpp import distance
from gsqc.check.check import run_check
from gsqc.cli.app import execute
from gsqc.data import WEIGHT_ONE, TokenSequence
from gsqc.errors import GsqcError
from gsqc.runtime.session import Session
from gsqc.runtime.token_reader import TokenReader

LENGTH, RECORDS, STEPS, RATE = 32, 20, 15, 1e-3
RANK, ALPHA = 4, 8


def sequences() -> list[TokenSequence]:
    """Sequences of random bytes, each label the token that follows."""
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, 256, (RECORDS, LENGTH + 1), dtype=np.int32)
    weights = np.full(LENGTH, WEIGHT_ONE, np.int32)
    return [TokenSequence(row[:-1].copy(), row[1:].copy(), weights) for row in tokens]


def float_loss(model: Any, given: Sequence[TokenSequence]) -> torch.Tensor:
    """Mean loss per token of a float model, one sequence after another."""
    losses = []
    for sequence in given:
        tokens = torch.from_numpy(sequence.tokens).long()[None]
        logits = model(input_ids=tokens, use_cache=False).logits[0]
        labels = torch.from_numpy(sequence.labels).long()
        losses.append(torch.nn.functional.cross_entropy(logits, labels))
    return torch.stack(losses).mean()


def command(*arguments: object) -> None:
    """Run a command of gsqc without its output. Raises GsqcError."""
    with contextlib.redirect_stdout(io.StringIO()):
        execute([str(a) for a in arguments], owns_process=False)


class Trial:
    """One bundle of a language model and what is tried with it. `found` holds a value, or the
    words of a refusal.
    """

    generates = True

    def __init__(self, family: Family, directory: Path, folder: Path) -> None:
        self.family, self.directory, self.folder = family, directory, folder
        self.bundle = folder / "model.gsqc"
        self.found: dict[str, Any] = {}

    def sequences(self) -> list[TokenSequence]:
        """What losses are taken of."""
        return sequences()

    def loss(self, model: Any, given: Sequence[TokenSequence]) -> torch.Tensor:
        """The mean loss of a float model of transformers."""
        return float_loss(model, given)

    def load(self, directory: Path) -> Any:
        """A float model of transformers."""
        model = model_class(self.family.task).from_pretrained(directory, dtype=torch.float32)
        return model.eval()

    def stage(self, name: str, function: Callable[[], Any]) -> bool:
        """Put what a stage gives below its name, and say whether it gave something."""
        try:
            self.found[name] = function()
        except GsqcError as error:
            self.found[name] = f"refused: {str(error).splitlines()[0]}"
            return False
        except Exception as error:  # the matrix goes on, and shows it
            self.found[name] = f"failed: {type(error).__name__}: {error}"[:300]
            return False
        return True

    def compile(self) -> str:
        """Compile for native."""
        adapter = f"lora:rank={RANK},alpha={ALPHA}"
        task = ("--task", self.family.task)
        given = ("-o", self.bundle, "--seq", LENGTH, "--adapter", adapter, *task)
        command("compile", self.directory, *given)
        return "yes"

    def digests(self) -> str:
        """Whether native and numpy agree after two steps."""
        result = run_check(self.bundle, ["numpy", "native"], 2)
        return "equal" if result.equal else f"differ: {result.first_difference or result.not_run}"

    def start(self) -> float:
        """Export the untrained run. gsqc's loss less that of the float model of its weights."""
        self.session = Session(self.bundle, self.folder / "start")
        self.session.save()
        base = ("--merged", self.folder / "base", "--model", self.directory)
        command("export", self.bundle, "--run", self.folder / "start", *base)
        self.base = self.load(self.folder / "base")
        return self._difference(self.base)

    def logits(self) -> float:
        """RMS of the difference between the generating decoder's logits and those of the float
        model, over the RMS of the logits. What 8 bits cost is a few hundredths.
        """
        reader = TokenReader(self.session.executor, self.session.plan)
        reader.start()
        tokens = sequences()[0].tokens.tolist()
        rows = []
        for token in tokens:  # what `read` gives is the session's memory, and is used again
            parts = [np.ldexp(m.astype(np.float64), e) for m, e in reader.read([token])]
            rows.append(np.concatenate(parts))
        ours = np.stack(rows)[:, : self.session.bundle.manifest.model.vocabulary]
        with torch.no_grad():
            theirs = self.base(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].numpy()
        # Softmax ignores what a token's logits have in common.
        centred = theirs - theirs.mean(-1, keepdims=True)
        difference = ours - ours.mean(-1, keepdims=True) - centred
        return float(np.sqrt((difference**2).mean() / (centred**2).mean()))

    def train(self) -> float:
        """15 steps on the same data, from the same adapter: the largest difference of a loss."""
        model, given = self.trainable(), self.training()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0)
        differences = []
        for _ in range(STEPS):
            loss = self.loss(model, given)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            differences.append(self.session.step(given, RATE).loss - loss.item())
        self.session.save()
        return max(differences, key=abs)

    def training(self) -> list[TokenSequence]:
        """What the steps are taken on: one record."""
        return self.sequences()[:1]

    def trainable(self) -> Any:
        """The float base with the untrained run's adapter, as PEFT loads it."""
        from peft import PeftModel

        place = self.folder / "start-peft"
        self.export("start-peft")
        return PeftModel.from_pretrained(self.base, str(place), is_trainable=True)

    def export(self, name: str) -> None:
        """Export the run's adapter for PEFT."""
        place = self.folder / name
        command("export", self.bundle, "--run", self.folder / "start", "--peft", place)

    def peft(self) -> float:
        """Export to PEFT and load it there. gsqc's loss less PEFT's, on the bundle's weights."""
        from peft import PeftModel

        self.export("peft")
        base = self.load(self.folder / "base")
        return self._difference(PeftModel.from_pretrained(base, str(self.folder / "peft")).eval())

    def taken(self) -> str:
        """Import what was exported: the same numbers begin another run."""
        run = self.folder / "again"
        place = self.folder / "peft"
        command("import", self.bundle, "--peft", place, "--any-base", "--run", run)
        ours, theirs = self.session.state(), Session(self.bundle, run).state()
        adapters = [name for name in ours if "." not in name.split("_")[-1]]
        same = all(np.array_equal(ours[name], theirs[name]) for name in adapters)
        return "equal" if same else "differs"

    def merged(self) -> float:
        """Export merged and load it in transformers. gsqc's loss less the model's."""
        place = self.folder / "merged"
        base = ("--merged", place, "--model", self.directory)
        command("export", self.bundle, "--run", self.folder / "start", *base)
        return self._difference(self.load(place))

    def gguf(self) -> float:
        """Export merged as GGUF. How far llama.cpp's probabilities are from transformers'."""
        place = self.folder / "merged.gguf"
        base = ("--merged", place, "--dtype", "f16", "--model", self.directory)
        command("export", self.bundle, "--run", self.folder / "start", *base)
        return distance(place, self.load(self.folder / "merged"))

    def gguf_adapter(self) -> str:
        """Export the adapter for llama.cpp."""
        place = self.folder / "adapter.gguf"
        command("export", self.bundle, "--run", self.folder / "start", "--gguf", place)
        return "written"

    def _difference(self, model: Any) -> float:
        with torch.no_grad():
            loss = self.loss(model, self.sequences()).item()
        return self.session.evaluate(self.sequences()).loss - loss


def bundle_stages(trial: Trial) -> dict[str, Any]:
    """Compile a model and try all that is behind a bundle. What each stage found, by its name."""
    if not trial.stage("compile", trial.compile):
        return trial.found
    trial.stage("digests", trial.digests)
    if not trial.stage("eval", trial.start):
        return trial.found
    if trial.generates:
        trial.stage("decoder", trial.logits)
    if trial.stage("train", trial.train):
        trial.stage("peft", trial.peft)
        if trial.generates:
            trial.stage("import", trial.taken)
        trial.stage("merged", trial.merged)
        if trial.family.gguf:
            trial.stage("gguf", trial.gguf)
            trial.stage("gguf_adapter", trial.gguf_adapter)
    return trial.found
