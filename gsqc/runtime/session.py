# SPDX-License-Identifier: Apache-2.0
"""Session: load a bundle, step it, evaluate it, generate with it, save and resume. No torch, no compiler."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle import Bundle
from gsqc.errors import DataError, OptionError, TargetError
from gsqc.optim import OPTIMIZERS
from gsqc.plan import Plan
from gsqc.runtime.data import WEIGHT_ONE, TokenSequence
from gsqc.runtime.executor import Executor, Kernels, default_threads
from gsqc.runtime.requirements import require_session
from gsqc.runtime.sampling import pick_token
from gsqc.runtime.store import RunStore

Array = npt.NDArray[Any]
LOSS_ONE = 1 << 16
"""Losses are in Q16 nats."""


@dataclass(frozen=True)
class StepResult:
    """One optimizer step: mean loss in nats over `tokens` weighted tokens, and the digest of the state after it."""

    step: int
    loss: float
    tokens: int
    digest: str


@dataclass(frozen=True)
class EvaluationResult:
    """Mean loss in nats over `tokens` weighted tokens."""

    loss: float
    perplexity: float
    tokens: int


def load_kernels(bundle: Bundle, plan: Plan, target: str) -> Kernels:
    """The kernels of a target: "numpy", or the one that the bundle was compiled for ("native" is that one too)."""
    if target == "numpy":
        from gsqc.runtime.numpy_kernels import NumpyKernels

        return NumpyKernels(plan.kernels)
    compiled = bundle.manifest["target"].get("name", "native")
    if target not in (compiled, "native"):
        raise TargetError(
            f"this bundle has code for {compiled}, not for {target}",
            f"compile the model again with --target {target}, or use --on numpy,{compiled}",
        )
    if compiled == "cuda":
        from gsqc.runtime.cuda_kernels import CudaKernels

        return CudaKernels(bundle.file("code/kernels.fatbin"), bundle.file("code/launches.json"))
    from gsqc.runtime.kernels import CompiledKernels

    if "lib/libtvm_runtime.so" not in bundle.files:
        raise TargetError(
            f"the bundle was compiled on another kind of machine than its target {compiled}, for gsqc-step alone",
            "run its bin/gsqc-step (docs/runner.md), or compile the model on this machine",
        )
    return CompiledKernels(bundle.file("lib/libtvm_runtime.so"), bundle.file("code/kernels.so"))


class Session:
    """A training session over a bundle.

    Opens `bundle` (a path is checked against its hashes and this machine), takes the state of the run directory `run`
    if it holds one, else the bundle's initial state, and prepares the frozen operands. Raises BundleError, RunError,
    TargetError.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        run: str | Path | None = None,
        *,
        target: str | None = None,
        threads: int | None = None,
    ) -> None:
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(Path(bundle), check_machine=target != "numpy")
        self.bundle = bundle
        manifest = self.bundle.manifest
        self.sequence_length: int = manifest["sequence_length"]
        self.batch: int = manifest["batch"]
        self.plan = self.bundle.plan
        self.optimizer = OPTIMIZERS[manifest["optimizer"]]
        require_session(self.plan, self.sequence_length, self.optimizer)
        kernels = load_kernels(self.bundle, self.plan, target or "native")
        if threads is not None:
            kernels.set_threads(threads)
        self.threads = threads or default_threads()
        self.store = RunStore(Path(run), self.bundle) if run is not None else None
        base = self.bundle.map_tensors("base.safetensors", self.plan.buffers["base"])
        self.executor = Executor(self.plan, kernels, base, base.release_pages)
        self.step_count = 0
        self._load_state()
        self.executor.finish("prepare")

    # ---------------------------------------------------------------------------------------------------------- state

    def _load_state(self) -> None:
        saved = self.store.load_state(self.plan.buffers["state"]) if self.store is not None else None
        tensors: Mapping[str, Array]
        if saved is not None:
            tensors, self.step_count = saved
        else:
            tensors = self.bundle.map_tensors("state.safetensors", self.plan.buffers["state"])
        for name, tensor in self.state().items():
            np.copyto(tensor, tensors[name].reshape(-1), casting="no")

    def state(self) -> dict[str, Array]:
        """The trained tensors by name, flat: adapter matrices and the optimizer's state. Views, not copies."""
        return {name: self.executor.tensors[name] for name in sorted(self.plan.buffers["state"])}

    def digest(self) -> str:
        """sha256 over the whole training state: the step, then each tensor's name, type, size and own sha256."""
        state = list(self.state().items())
        workers = self.threads
        with ThreadPoolExecutor(workers) as pool:
            parts = pool.map(_tensor_digests, (state[k::workers] for k in range(workers)))
            by_name = dict(entry for part in parts for entry in part)
        lines = [f"{name} {tensor.dtype.str} {tensor.size} {by_name[name]}" for name, tensor in state]
        return hashlib.sha256("\n".join([f"step {self.step_count}", *lines]).encode()).hexdigest()

    def save(self) -> None:
        """Write the state to the run directory; the old state survives a failure."""
        if self.store is None:
            raise OptionError("this session has no run directory", "open it with run=DIR (--run DIR)")
        self.store.save_state(self.state(), self.step_count)

    # ------------------------------------------------------------------------------------------------------- training

    def _check_sequence(self, sequence: TokenSequence) -> None:
        """DataError unless the bundle can take the sequence."""
        vocabulary = self.bundle.manifest["model"]["vocabulary"]
        for name in ("tokens", "labels", "weights"):
            values = getattr(sequence, name)
            if values.shape != (self.sequence_length,):
                raise DataError(
                    f"a sequence of {values.size} {name} for a bundle of {self.sequence_length}",
                    "pad it to the bundle's",
                )
            limit = WEIGHT_ONE if name == "weights" else vocabulary - 1
            if values.min() < 0 or values.max() > limit:
                raise DataError(f"{name} outside [0, {limit}]", "use the tokenizer of the bundle's model")

    def _run_sequence(self, schedule: str, sequence: TokenSequence) -> tuple[int, int]:
        """Run train or evaluate on one sequence: the weighted loss (Q16 · Q14) and the weight (Q14)."""
        for name in ("tokens", "labels", "weights"):
            np.copyto(self.executor.tensors[name], getattr(sequence, name), casting="no")
        self.executor.run(schedule)
        weights = sequence.weights.astype(np.int64)
        loss = int((self.executor.tensors["loss"].astype(np.int64) * weights).sum())
        return loss, int(weights.sum())

    def step(
        self, sequences: Sequence[TokenSequence], learning_rate: Fraction, decay: Fraction = Fraction(0)
    ) -> StepResult:
        """One optimizer step on a batch: gradients of the summed token losses, divided by the tokens in the update."""
        if not 1 <= len(sequences) <= self.batch:
            raise DataError(
                f"{len(sequences)} sequences for a bundle of batch {self.batch}", "compile with a larger --batch"
            )
        weight = sum(int(s.weights.astype(np.int64).sum()) for s in sequences)
        if weight == 0:
            raise DataError(
                "a batch has no token with a loss", "give records a completion that fits the sequence length"
            )
        for sequence in sequences:
            self._check_sequence(sequence)
        inputs = self.optimizer.step_inputs(learning_rate, decay, self.step_count + 1, weight)
        for name, value in inputs.items():
            self.executor.tensors[name][0] = value
        self.executor.clear_gradients()
        loss = sum(self._run_sequence("train", sequence)[0] for sequence in sequences)
        if "update" in self.plan.schedules:
            self.executor.run("update")
        self.step_count += 1
        return StepResult(self.step_count, _mean_loss(loss, weight), round(weight / WEIGHT_ONE), self.digest())

    def evaluate(self, sequences: Sequence[TokenSequence]) -> EvaluationResult:
        """Mean loss per weighted token; the state does not change."""
        for sequence in sequences:
            self._check_sequence(sequence)
        totals = [self._run_sequence("evaluate", s) for s in sequences]
        loss, weight = sum(t[0] for t in totals), sum(t[1] for t in totals)
        if weight == 0:
            raise DataError(
                "the data has no token with a loss", "give records a completion that fits the sequence length"
            )
        mean = _mean_loss(loss, weight)
        return EvaluationResult(mean, math.exp(mean), round(weight / WEIGHT_ONE))

    # ----------------------------------------------------------------------------------------------------- generation

    def _start(self) -> None:
        """Forget all tokens, and take the adapter as it is now."""
        for name in self.plan.buffers["cache"]:
            self.executor.tensors[name].fill(0)
        if "prepare_decode" in self.plan.schedules:
            self.executor.run("prepare_decode")

    def _feed(self, token: int, position: int) -> list[tuple[Array, int]]:
        """The logits after one more token: for each chunk of the vocabulary its mantissas and their exponent."""
        tensors = self.executor.tensors
        tensors["token"][0], tensors["position"][0] = token, position
        self.executor.run("decode")
        chunks = sum(name.startswith("logits_") and name.endswith(".m") for name in tensors)
        return [(tensors[f"logits_{k}.m"], int(tensors[f"logits_{k}.e"][0])) for k in range(chunks)]

    def generate(
        self, prompt: Sequence[int], max_tokens: int, temperature: Fraction = Fraction(0), seed: int = 0
    ) -> Iterator[int]:
        """Tokens after `prompt`, greedy (temperature 0) or sampled; ends after `max_tokens` or an end-of-text token.

        Keys and values of earlier tokens are kept. When prompt and completion outgrow the sequence length, the first
        half of the window is dropped and the rest is read again. Do not step the session in between.
        """
        vocabulary = self.bundle.manifest["model"]["vocabulary"]
        if not prompt:
            raise DataError("the prompt is empty", "give at least one token")
        if not all(0 <= t < vocabulary for t in prompt):
            raise DataError(f"tokens outside [0, {vocabulary - 1}]", "use the tokenizer of the bundle's model")
        end = self.bundle.manifest["model"].get("eos_token_id")
        window, waiting = 0, [int(t) for t in prompt[-self.sequence_length :]]
        seen: list[int] = []
        self._start()
        for number in range(max_tokens):
            for token in waiting:
                logits = self._feed(token, window)
                seen.append(token)
                window += 1
            token = pick_token(logits, temperature, seed, number)
            if token == end:
                return
            yield token
            waiting = [token]
            if window == self.sequence_length:
                waiting = [*seen[-(self.sequence_length // 2) :], token]
                window = 0
                self._start()


def _tensor_digests(tensors: list[tuple[str, Array]]) -> list[tuple[str, str]]:
    return [(name, hashlib.sha256(tensor.data).hexdigest()) for name, tensor in tensors]


def _mean_loss(loss: int, weight: int) -> float:
    """Loss in Q16·Q14 over weight in Q14, for people to read: the state never sees it."""
    return float(Fraction(loss, weight * LOSS_ONE))
