# SPDX-License-Identifier: Apache-2.0
"""A bundle without compiled code and a session that steps it, to test all that is above kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import AdapterPart, Manifest, ModelPart, TargetPart
from gsqc.bundle.plan import Plan, TensorPlan
from gsqc.bundle.writer import BundleWriter
from gsqc.data import TokenSequence
from gsqc.errors import DataError
from gsqc.runtime.results import EvaluationResult, StepResult
from gsqc.runtime.store import BEST, RunStore
from gsqc.runtime.store import STATE as STATE_FILE

SEQUENCE, BATCH = 16, 2
VOCABULARY, END = 257, 256
CODE = "code/numpy/kernels.so"
STATE = {
    "layers.0.q_a": np.arange(8, dtype=np.int32),
    "layers.0.q_a.moment.e": np.full(2, -120, np.int32),
}


def other_state() -> dict[str, Any]:
    """Another initial state, which gives a bundle another meaning."""
    return {name: tensor + 1 for name, tensor in STATE.items()}


def byte_tokenizer() -> Tokenizer:
    """A tokenizer with a token for each UTF-8 byte. <end> is 256."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: k for k, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


def manifest() -> Manifest:
    """A manifest that lists no files yet."""
    return Manifest(
        targets={"numpy": TargetPart("numpy", rank=0, code_bytes=30)},
        model=ModelPart("llama", 1, 4, 1, 1, VOCABULARY, name="toy", eos_token_id=END),
        adapter=AdapterPart("lora", {"rank": 4, "alpha": 8}, ("q",), {}),
        bits="4-8-8",
        base="nf4",
        base_kinds={},
        optimizer="adamw",
        sequence_length=SEQUENCE,
        batch=BATCH,
        seed=0,
        recompute="blocks",
        weights="fast",
        operators={"add": 3, "matmul": 2},
        planned_peak_bytes=1000,
        weights_bytes=200,
    )


def small_plan() -> Plan:
    """A plan that has a state and nothing to run."""
    state = {name: TensorPlan("int32", tensor.size) for name, tensor in STATE.items()}
    return Plan(buffers={"state": state})


def write_bundle(
    path: Path,
    *,
    tokenizer: bool = True,
    state: dict[str, Any] = STATE,
    plan: Plan | None = None,
    tensors: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write the small bundle. `changes` replaces fields of its manifest."""
    with BundleWriter(path) as bundle:
        if tensors is not None:
            bundle.add_tensors("base.safetensors", tensors)
        bundle.add_tensors("state.safetensors", state)
        bundle.add_bytes(CODE, b"code")
        if tokenizer:
            bundle.add_bytes("tokenizer.json", byte_tokenizer().to_str().encode())
        bundle.finish(replace(manifest(), **changes), plan or small_plan())
    return path


class FakeSession:
    """It has the interface of Session. A step adds its batch and learning rate to the state."""

    wrong_target: str | None = None
    """This target adds one to an element at its second step."""

    def __init__(
        self,
        bundle: Path | Bundle,
        run: Path | None = None,
        *,
        target: str | None = None,
        threads: int | None = None,
        best: bool = False,
    ) -> None:
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(Path(bundle))
        self.bundle = bundle
        self.sequence_length: int = self.bundle.manifest.sequence_length
        self.batch: int = self.bundle.manifest.batch
        self.target = target
        self.plan, self.executor = self.bundle.plan, SimpleNamespace(watch=None, tensors={})
        self.store = RunStore(Path(run), self.bundle) if run is not None else None
        self.step_count = 0
        self.tensors = dict(self.bundle.map_tensors("state.safetensors"))
        expected = {name: TensorPlan("int32", tensor.size) for name, tensor in STATE.items()}
        saved = (
            self.store.load_state(expected, BEST if best else STATE_FILE)
            if self.store is not None
            else None
        )
        if saved is not None:
            self.tensors, self.step_count = dict(saved[0]), saved[1]

    def state(self) -> dict[str, Any]:
        return dict(sorted(self.tensors.items()))

    def digest(self) -> str:
        data = b"".join(t.tobytes() for t in self.state().values())
        return hashlib.sha256(data + str(self.step_count).encode()).hexdigest()

    def step(
        self,
        sequences: Sequence[TokenSequence],
        learning_rate: Fraction,
        decay: Fraction = Fraction(0),
        clip: Fraction | None = None,
    ) -> StepResult:
        if all(s.weighted_tokens == 0 for s in sequences):
            raise DataError("a batch has no token with a loss", "give longer records")
        seen = sum(int(s.tokens.sum()) * (k + 1) for k, s in enumerate(sequences))
        self.step_count += 1
        self.tensors["layers.0.q_a"] += np.int32(
            (seen + int(learning_rate * 10**6)) % 1000 * self.step_count
        )
        if self.target is not None and self.target == self.wrong_target and self.step_count == 2:
            self.tensors["layers.0.q_a"][5] += 1
        norm = None if clip is None else float(clip) * 2
        tokens = sum(s.weighted_tokens for s in sequences)
        return StepResult(self.step_count, 4.0 / self.step_count, tokens, self.digest(), norm)

    def evaluate(
        self, sequences: Sequence[TokenSequence], watch: Callable[[int], object] = lambda done: None
    ) -> EvaluationResult:
        """The loss falls up to step 6, then rises."""
        for k in range(len(sequences)):
            watch(k + 1)
        loss = 1.5 + abs(self.step_count - 6) / 8
        return EvaluationResult(loss, 2.0**loss, sum(s.weighted_tokens for s in sequences))

    def generate(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        temperature: Fraction = Fraction(0),
        seed: int = 0,
    ) -> Iterator[int]:
        yield from list(prompt)[:max_tokens]

    def save(self) -> None:
        assert self.store is not None
        self.store.save_state(self.state(), self.step_count)
