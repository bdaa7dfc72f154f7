# SPDX-License-Identifier: Apache-2.0
"""How much the gradient loses if the activations saved for the backward pass have fewer bits, on
SmolLM2-135M.

    python -m benchmarks.saved_activations

The model first trains for a few steps. Then the adapters' gradient of some batches is taken twice:
with the saved activations as they are, and with some of them rounded to GSE-b (groups of 32, no
window) between the forward and the backward pass. The report has the cosine with the gradient of
the float32 model, over all matrices as one vector, and with gsqc's own gradient.

"x, and its block" rounds what goes from block to block in the forward pass. Saving it in fewer bits
would have to do the same, because what runs again must give the same bits as what ran first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fidelity.gsqc_side import LORA, MODEL
from benchmarks.fidelity.recipes import FLOAT, PEERS
from benchmarks.fidelity.texts import EXAMPLES
from benchmarks.fidelity.torch_side import TorchSide
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.data import TokenSequence, load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.models.capture import capture_model, float_parameters
from gsqc.numerics.formats import GROUP, Row, largest
from gsqc.numerics.ops.quantise import quantise
from gsqc.numerics.ops.registry import evaluate
from gsqc.runtime.session import Session
from gsqc.targets import NATIVE, resolve_target

KINDS = {
    "normed x (4)": ("getitem", "getitem_1", "getitem_3", "getitem_4"),
    "q, k, v": ("rope", "rope_1", "split_heads_2"),
    "P of attention": ("softmax",),
    "attention's result": ("join_rows",),
    "gate, up, and their product": ("add_6", "add_7", "silu_gate"),
}
"""The large tensors that a block saves, by their names in its graph (gsqc compile --dump)."""


def round_gse(m: np.ndarray, bits: int) -> None:
    """Round mantissas to `bits` bits a group, in place."""
    # Each group is given to quantise as a row of its own, so that it has no window.
    groups = m.reshape(-1, GROUP)
    row = Row(groups, np.zeros((len(groups), 1), np.int32), 16 if m.dtype == np.int16 else 24)
    rounded = evaluate(quantise, [row], {"bits": bits})
    up, down = np.clip(rounded.e, 0, 31), np.clip(-rounded.e, 0, 31)
    groups[:] = rounded.m.astype(np.int32) << up >> down


def round_row(m: np.ndarray, bits: int) -> None:
    """Round mantissas of 24 bits to `bits` bits, in place."""
    # A row's largest mantissa uses all 24 bits, so one shift serves all.
    shift = 24 - bits
    m[:] = np.clip((m + (1 << (shift - 1))) >> shift, -largest(bits), largest(bits)) << shift


class Gradients:
    """The adapters' gradient of a session's model, with roundings between the calls of its
    schedule.
    """

    def __init__(self, session: Session) -> None:
        self.session, self.executor = session, session.executor
        self.plan = session.plan.schedules["gradient"]
        self.region = self.executor.arena[session.plan.scratch_bytes("gradient") :]

    def activation(self, name: str) -> np.ndarray:
        """A tensor that lives between the functions of the schedule."""
        tensor = self.plan.activations[name]
        return self.region[tensor.offset : tensor.offset + tensor.size_bytes].view(tensor.dtype)

    def __call__(
        self, sequence: TokenSequence, saved: dict[str, int], x_bits: int = 24
    ) -> np.ndarray:
        """The gradient with the saved tensors of these names rounded to so many bits, as one
        vector.
        """
        for name in ("tokens", "labels", "weights"):
            self.executor.tensors[name][:] = getattr(sequence, name)
        self.executor.clear_gradients()
        layer, before = 0, ""
        places = (
            (p.program, k) for p in self.executor.bound("gradient") for k in range(len(p.kernels))
        )
        starts = self._starts()
        for number, ((program, k), call) in enumerate(
            zip(places, self.executor.calls("gradient"), strict=True)
        ):
            if number in starts:
                layer += before == "block_forward"
                if before in ("embed", "block_forward") and x_bits < 24:
                    round_row(self.activation(f"x.{layer}.m"), x_bits)
                if call.function == "head_backward":
                    self._round_saved(saved)
                before = call.function
            program.run_one(k)
        state = self.executor.tensors
        names = [n for n in self.session.state() if n.endswith(("_a", "_b"))]
        return np.concatenate(
            [state[f"{n}_grad_high"] * 2.0**-12 + state[f"{n}_grad_low"] * 2.0**-34 for n in names]
        )

    def _starts(self) -> set[int]:
        """The numbers of the calls with which a function of the schedule begins."""
        starts, number = set(), 0
        for name, _ in self.plan.calls:
            starts.add(number)
            number += (
                len(self.session.plan.functions[name].calls)
                if name in self.session.plan.functions
                else 1
            )
        return starts

    def _round_saved(self, saved: dict[str, int]) -> None:
        for layer in range(self.session.bundle.manifest.model.layers):
            for name, bits in saved.items():
                round_gse(self.activation(f"layers.{layer}.saved_{name}.m"), bits)


def float_adapters(session: Session) -> dict[str, torch.Tensor]:
    """The session's adapter matrices as float32."""
    state = session.state()
    sizes = {n: (LORA.rank, -1) if n.endswith("_a") else (-1, LORA.rank) for n in state}
    names = [n for n in state if n.endswith(("_a", "_b"))]
    return {n: torch.from_numpy(state[n].reshape(sizes[n]) / 2.0**24).float() for n in names}


def float_gradient(session: Session, captured: Any, sequence: TokenSequence) -> np.ndarray:
    """The gradient of the float32 model with the session's adapters."""
    parameters, adapters = float_parameters(captured), float_adapters(session)
    side = TorchSide(captured, parameters, PEERS[FLOAT], adapters, LORA)
    side.loss([sequence])[0].backward()
    names = [n for n in session.state() if n.endswith(("_a", "_b"))]
    return np.concatenate([side.adapters[n].grad.numpy().reshape(-1) for n in names]).astype(
        np.float64
    )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine of two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def settings() -> dict[str, tuple[dict[str, int], int]]:
    """For each row of the table, the bits of saved tensors and of x."""
    everything = [name for names in KINDS.values() for name in names]
    rows: dict[str, tuple[dict[str, int], int]] = {"as saved today": ({}, 24)}
    for bits in (8, 6, 5, 4):
        rows[f"all, GSE-{bits}"] = (dict.fromkeys(everything, bits), 24)
    rows |= {f"{kind}, GSE-5": (dict.fromkeys(names, 5), 24) for kind, names in KINDS.items()}
    return rows | {f"x, and its block, Row-{bits}": ({}, bits) for bits in (20, 16, 12)}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument(
        "--steps", type=int, default=10, help="of training before the gradients are taken"
    )
    parser.add_argument("--batches", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gsqc-saved-") as folder:
        options = {"sequence_length": args.seq, "seed": 1, "recompute": "none"}
        bundle, target = Path(folder) / "model.gsqc", resolve_target(NATIVE)
        compile_model(MODEL, CompileOptions(bundle, target, Bits.parse("4-8-8"), "gguf", **options))
        session = Session(bundle)
        data = load_data(
            EXAMPLES / "devils-dictionary-train.jsonl", Tokenizer(session.bundle), args.seq
        )
    batches = data.batches(1, 1)
    for _ in range(args.steps):
        session.step(next(batches), Fraction(1, 1000))
    captured = capture_model(MODEL, args.seq)
    gradients = Gradients(session)
    sequences = [next(batches)[0] for _ in range(args.batches)]
    references = [float_gradient(session, captured, s) for s in sequences]
    own = [gradients(s, {}) for s in sequences]
    print(
        "| saved for backward | cosine with float32's gradient | with gsqc's own |\n|---|---|---|"
    )
    for name, (saved, x_bits) in settings().items():
        found = [gradients(s, saved, x_bits) for s in sequences]
        to_float, to_own = (
            statistics.fmean(map(cosine, found, others)) for others in (references, own)
        )
        print(f"| {name} | {to_float:.4f} | {to_own:.5f} |", flush=True)


if __name__ == "__main__":
    main()
