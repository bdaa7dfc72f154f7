# SPDX-License-Identifier: Apache-2.0
"""Does the integer step train as well as float, and as other formats? The answer is the held-out
loss after the same steps on the same base codes.

    python -m benchmarks.fidelity --texts bierce --rates 1e-3 --orders 1

Each run is SmolLM2-135M with the weights of its Q4_1 codes, a LoRA of rank 16 on all linears, AdamW
and one record a step. gsqc runs at each of --bits. The peers run in torch, their operands rounded
to what their format can hold and their sums in float32 (recipes.py says which operands). All begin
with the same adapter and take the same records with the same learning rates: warm-up, then linear
to zero. The order of the data alone moves a loss by about 0.3 %, so read means of several orders.

Each run becomes a line of results.jsonl in --output, and runs that are there already are skipped:
hours can be split. A changed number format needs another --output. The table and the plot, of all
that is in the file, are written last.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import math
import platform
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.fidelity.gsqc_side import (
    LORA,
    MODEL,
    GsqcSide,
    compile_bundle,
    initial_adapters,
)
from benchmarks.fidelity.recipes import FLOAT, PEERS
from benchmarks.fidelity.report import draw, table
from benchmarks.fidelity.results import Result, Results, Run
from benchmarks.fidelity.texts import PARTS, TEXTS, text_files
from benchmarks.fidelity.torch_side import TorchSide
from gsqc.compiler.options import Bits
from gsqc.data import Dataset, load_data
from gsqc.data.tokenizer import Tokenizer
from gsqc.decimals import parse_fraction
from gsqc.models.capture import capture_model, float_parameters
from gsqc.training.learning_rate import LearningRate


def machine() -> str:
    """The processor's name."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class Bench:
    """The model, the texts and the bundles, each made when it is first needed."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.captured = capture_model(MODEL, args.seq)
        self.parameters = float_parameters(self.captured)
        self.initial = initial_adapters(self.captured)
        self.bundle = cache(lambda bits: compile_bundle(folder, bits, args.seq))
        self.text = cache(self._text)

    def _text(self, text: str) -> dict[str, Dataset]:
        args, metadata = self.args, self.captured.metadata
        assert self.captured.tokenizer_json is not None
        tokenizer = Tokenizer.of_model(self.captured.tokenizer_json, metadata)
        files = text_files(text, args.output, args.foldoc, args.download)
        return {part: load_data(files[part], tokenizer, args.seq) for part in PARTS}

    def side(self, name: str) -> Any:
        """A fresh side: TorchSide for a peer's name, GsqcSide for W-A-G."""
        if name not in PEERS:
            return GsqcSide(self.bundle(name), self.initial, self.args.threads)
        return TorchSide(self.captured, self.parameters, PEERS[name], self.initial, LORA)

    def measure(self, run: Run, before: float | None) -> Result:
        """The result of a run. `before` is measured if it is asked for and not known."""
        data, heldout = (self.text(run.text)[part] for part in PARTS)
        side = self.side(run.side)
        if before is None and self.args.before:
            before = side.evaluate(heldout)
        rates = LearningRate(
            parse_fraction(run.rate, "--rates", 1), run.steps, run.warmup, "linear"
        )
        start = time.perf_counter()
        losses = side.train(data, rates, run.order)
        after = side.evaluate(heldout)
        seconds = round(time.perf_counter() - start, 1)
        assert math.isfinite(after)
        tokens = sum(s.weighted_tokens for s in heldout.sequences)
        return Result(run, before, after, losses, tokens, seconds, self.args.threads, machine())


def planned_runs(args: argparse.Namespace) -> Iterator[Run]:
    """All runs of the options: every side of an order before the next order."""
    sides = [FLOAT, *args.bits, *(peer for peer in args.peers if peer != FLOAT)]
    for rate, text, order, side in itertools.product(args.rates, args.texts, args.orders, sides):
        yield Run(text, rate, order, side, args.steps, args.seq, args.warmup)


def listed(text: str) -> list[str]:
    """The parts of a text between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_arguments() -> argparse.Namespace:
    """The command line. Unknown names are refused before anything is measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fidelity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--bits", type=listed, default="4-8-8,4-6-6,4-5-5,4-8-6", help="bits of gsqc")
    add("--peers", type=listed, default=",".join(PEERS), help="beside float32, always there")
    add("--texts", type=listed, default=",".join(TEXTS))
    add("--rates", type=listed, default="1e-3,5e-4", help="peak learning rates")
    add("--orders", type=lambda text: list(map(int, listed(text))), default="1,2,3")
    add("--steps", type=int, default=60)
    add("--seq", type=int, default=128)
    add("--warmup", type=int, default=5)
    add("--before", action="store_true", help="measure the untouched side of each kind too")
    add("--threads", type=int, default=1)
    add("--foldoc", type=Path, help="foldoc.dict.dz, if the package is not installed")
    add("--download", action="store_true", help="get dict-foldoc by apt-get if it is missing")
    add("--output", type=Path, default=Path("build/fidelity"))
    add("--report", action="store_true", help="no runs: the table and the plot alone")
    args = parser.parse_args()
    for kind, known in (("peers", PEERS), ("texts", TEXTS)):
        if unknown := sorted(set(getattr(args, kind)) - set(known)):
            parser.error(f"unknown: {unknown[0]}; --{kind} takes {', '.join(known)}")
    for bits in args.bits:
        Bits.parse(bits)
    return args


def main() -> None:
    """Measure what is missing, then write the table and the plot."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    results = Results(args.output / "results.jsonl")
    missing = [run for run in planned_runs(args) if run not in results.by_run]
    if missing and not args.report:
        with tempfile.TemporaryDirectory(prefix="gsqc-fidelity-") as folder:
            bench = Bench(args, Path(folder))
            for run in missing:
                result = bench.measure(run, results.before(run))
                gc.collect()  # a side is in a circle with its interpreter, and holds a gigabyte
                results.add(result)
                print(result.line(), flush=True)
    written = table(list(results.by_run.values()))
    (args.output / "table.md").write_text(written, encoding="utf-8")
    draw(list(results.by_run.values()), args.output / "fidelity.png")
    print(written)


if __name__ == "__main__":
    main()
