# SPDX-License-Identifier: Apache-2.0
"""Does the integer step train as well as float? The answer is the held-out loss after the same
steps on the same base codes.

    python benchmarks/fidelity.py --steps 60 --seq 128 --bits 4-8-8,4-6-6,4-5-5 --json

One side is gsqc at each of --bits. The other is the same LoRA in float32 (torch autograd, torch's
AdamW) on the de-quantised base. Both begin with the same adapter and take the same batches with the
same learning rates (warm-up, then linear to zero). "before" of the float side is the untouched
float32 model. The order of the data alone makes a difference of about 0.3 %, so the report has the
mean of three orders.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gsqc.adapters.linears import SHORT_NAMES
from gsqc.adapters.lora import Lora
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.data import WEIGHT_ONE, Dataset, TokenSequence, load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.decimals import parse_fraction
from gsqc.models import model_ops
from gsqc.models.capture import FloatRun, capture_model, float_parameters
from gsqc.runtime.session import Session
from gsqc.targets.registry import NATIVE, resolve_target
from gsqc.training.learning_rate import LearningRate

EXAMPLES = Path(__file__).parent.parent / "examples"
MODEL = "smollm2-135m"
FLOAT = "float32 + LoRA"


class FloatSide:
    """The captured model in float32 with a LoRA on each linear of its blocks."""

    def __init__(self, captured: Any, initial: dict[str, torch.Tensor], options: Lora) -> None:
        self.adapters = {name: torch.nn.Parameter(value.clone()) for name, value in initial.items()}
        self.factor = options.alpha / options.rank
        self.runner = FloatRun(
            captured, float_parameters(captured), {model_ops.linear: self._linear}
        )

    def _linear(self, node: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = model_ops.linear(x, w)
        if node.meta["block"] is None:
            return y
        name = f"layers.{node.meta['block']}.{SHORT_NAMES[node.meta['module'].rsplit('.', 1)[-1]]}"
        a, b = self.adapters[f"{name}_a"], self.adapters[f"{name}_b"]
        return y + self.factor * ((x @ a.T) @ b.T)

    def loss(self, sequence: TokenSequence) -> tuple[torch.Tensor, float]:
        """Summed loss over the weighted tokens, and their number."""
        logits = self.runner.logits(sequence.tokens)
        weights = torch.from_numpy(sequence.weights / WEIGHT_ONE).float()
        labels = torch.from_numpy(sequence.labels).long()
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        return (losses * weights).sum(), float(weights.sum())

    def train(self, data: Dataset, rates: LearningRate, seed: int) -> None:
        """The steps that `gsqc train` would make."""
        optimizer = torch.optim.AdamW(self.adapters.values(), weight_decay=0.0)
        batches = data.batches(1, seed)
        for step in range(1, rates.steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = float(rates.at(step))
            optimizer.zero_grad()
            loss, tokens = self.loss(next(batches)[0])
            (loss / tokens).backward()
            optimizer.step()

    def evaluate(self, sequences: list[TokenSequence]) -> float:
        """Mean loss per weighted token."""
        with torch.no_grad():
            sums = [self.loss(s) for s in sequences]
        return float(sum(s[0] for s in sums)) / sum(s[1] for s in sums)


def integer_side(
    bundle: Path, data: Dataset, heldout: Dataset, rates: LearningRate, seed: int
) -> float:
    """Held-out loss of gsqc after the steps."""
    session = Session(bundle)
    batches = data.batches(1, seed)
    for step in range(1, rates.steps + 1):
        session.step(next(batches), rates.at(step))
    return session.evaluate(heldout.sequences).loss


def compile_bundle(folder: Path, bits: str, seq: int) -> Path:
    """SmolLM2-135M with its own 4-bit codes, rank 16, alpha 32."""
    output, target = folder / f"{bits}.gsqc", resolve_target(NATIVE)
    options = CompileOptions(output, target, Bits.parse(bits), "gguf", sequence_length=seq, seed=1)
    compile_model(MODEL, options)
    return options.output


def float_adapters(session: Session) -> dict[str, torch.Tensor]:
    """The session's adapter matrices as float32."""
    shapes = {
        name: session.plan.buffers["state"][name].count
        for name in session.state()
        if name.endswith(("_a", "_b"))
    }
    state = session.state()
    rank = session.bundle.manifest.adapter.settings["rank"]
    sizes = {n: (rank, -1) if n.endswith("_a") else (-1, rank) for n in shapes}
    return {n: torch.from_numpy(state[n].reshape(sizes[n]) / 2.0**24).float() for n in shapes}


def measure(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """One record per side and seed: held-out loss before and after."""
    rates = LearningRate(parse_fraction(args.lr, "--lr", 1), args.steps, args.warmup, "linear")
    bundles = {bits: compile_bundle(folder, bits, args.seq) for bits in args.bits.split(",")}
    first = Session(next(iter(bundles.values())))
    tokenizer = Tokenizer(first.bundle)
    data, heldout = (
        load_data(EXAMPLES / f"devils-dictionary-{part}.jsonl", tokenizer, args.seq)
        for part in ("train", "heldout")
    )
    initial = float_adapters(first)
    del first
    captured = capture_model(MODEL, args.seq)
    before = {
        bits: Session(bundle).evaluate(heldout.sequences).loss for bits, bundle in bundles.items()
    }
    before[FLOAT] = FloatSide(captured, initial, Lora(16, 32)).evaluate(heldout.sequences)
    for seed in map(int, args.seeds.split(",")):
        side = FloatSide(captured, initial, Lora(16, 32))
        side.train(data, rates, seed)
        reference = side.evaluate(heldout.sequences)
        yield {
            "side": FLOAT,
            "seed": seed,
            "before": before[FLOAT],
            "after": reference,
            "ratio": 1.0,
        }
        for bits, bundle in bundles.items():
            after = integer_side(bundle, data, heldout, rates, seed)
            record = {"side": f"gsqc {bits}", "seed": seed, "before": before[bits], "after": after}
            yield {**record, "ratio": after / reference}


def mean_by_side(records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The mean over the seeds, and the smallest and largest ratio."""
    for side in dict.fromkeys(r["side"] for r in records):
        own = [r for r in records if r["side"] == side]
        means = {key: statistics.fmean(r[key] for r in own) for key in ("before", "after", "ratio")}
        yield {
            "side": side,
            **means,
            "least": min(r["ratio"] for r in own),
            "most": max(r["ratio"] for r in own),
        }


def main() -> None:
    """Print a table, or JSON lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bits", default="4-8-8,4-6-6,4-5-5")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--lr", default="1e-3")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument(
        "--seeds", default="1,2,3", help="orders of the data, whose mean is reported"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    records = []
    with tempfile.TemporaryDirectory(prefix="gsqc-fidelity-") as folder:
        for record in measure(args, Path(folder)):
            assert math.isfinite(record["after"])
            records.append(record)
            if args.json:
                print(json.dumps(record), flush=True)
    if args.json:
        return
    print(
        f"{platform.machine()}, torch {torch.__version__}, "
        f"{args.steps} steps of 1 x {args.seq}, lr {args.lr}"
    )
    print("| side | held-out loss before | after | after / float32 | least to most |")
    print("|---|---|---|---|---|")
    line = "| {side} | {before:.4f} | {after:.4f} | {ratio:.4f} | {least:.4f} to {most:.4f} |"
    for mean in mean_by_side(records):
        print(line.format(**mean))


if __name__ == "__main__":
    main()
