# SPDX-License-Identifier: Apache-2.0
"""How a step's time and memory grow with sequence length, rank, depth and width, against what its
work predicts.

    python benchmarks/scaling.py --output build/scaling

Each point is a model, compiled and stepped in a process of its own. Depth and width are Llamas with
random weights, the other axes SmolLM2-135M. The reference point (SmolLM2, 256 tokens, rank 16) is
stepped again beside each point. The predicted time is the products and bytes of the plan's kernels
at the reference's two rates. The predicted memory is the plan's peak, and what the reference's
process takes beside its own. Writes scaling.md and scaling.png.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from gsqc_step import MODEL, gsqc_side, run_python

REFERENCE_LAYERS, REFERENCE_HIDDEN = 30, 576
HEAD = 64


@dataclass(frozen=True)
class Point:
    """A model and the shape of its step."""

    seq: int = 256
    rank: int = 16
    layers: int = REFERENCE_LAYERS
    hidden: int = REFERENCE_HIDDEN


AXES: dict[str, tuple[str, list[int]]] = {
    "sequence length": ("seq", [64, 128, 256, 512, 1024]),
    "rank": ("rank", [4, 16, 64, 128]),
    "depth": ("layers", [4, 15, 30, 60]),
    "width": ("hidden", [192, 384, 576, 1152]),
}


FIGURES = (("seconds", 1, "s / step"), ("peak_rss_bytes", 1e6, "peak RSS, MB"))


def random_model(point: Point) -> Any:
    """A Llama of SmolLM2's proportions."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    heads = point.hidden // HEAD
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=point.hidden,
            intermediate_size=point.hidden * 8 // 3,
            num_hidden_layers=point.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 3,
            vocab_size=49152,
            tie_word_embeddings=True,
        )
    )


def compile_point(point: Point, folder: Path) -> None:
    """The point's bundle, folder/point.gsqc."""
    from gsqc.adapters.lora import Lora
    from gsqc.compiler.compile import compile_model
    from gsqc.compiler.options import CompileOptions
    from gsqc.targets import resolve_target

    real = (point.layers, point.hidden) == (REFERENCE_LAYERS, REFERENCE_HIDDEN)
    adapter = Lora(rank=point.rank, alpha=2 * point.rank)
    model, base = (MODEL, "gguf") if real else (random_model(point), "nf4")
    target, place = resolve_target("native"), folder / "point.gsqc"
    compile_model(
        model, CompileOptions(place, target, base=base, adapter=adapter, sequence_length=point.seq)
    )


def work_of(bundle: Path) -> dict[str, float]:
    """A step's products, the bytes that the other kernels read and write, and the plan's peak."""
    from gsqc.bundle.bundle import Bundle
    from gsqc.bundle.plan import COPY, ITEM_BYTES

    plan = Bundle.open(bundle).plan
    products = moved = 0
    for name, _ in plan.schedules["train"].calls:
        if name == COPY:
            continue
        function = plan.functions[name]
        known = {**function.scratch, **function.ports}
        for kernel, references in function.calls:
            entry = plan.kernels[kernel]
            if entry.op == "gse_matmul":
                x, w = (value[2][0][0] for value in entry.inputs)
                products += prod(x) * w[-2]
            else:
                moved += sum(r.count * ITEM_BYTES[known[r.name].dtype] for r in references)
    return {"products": products, "moved": moved, "planned": plan.peak_bytes}


class Bench:
    """Compiles and steps points, each in a process of its own. The reference is stepped anew beside
    each of them.
    """

    def __init__(self, folder: Path, steps: int, threads: int) -> None:
        self.folder, self.options = folder, ["--steps", str(steps), "--threads", str(threads)]
        self.reference = self._compile(Point())

    def _run(self, part: str, point: Point, folder: Path) -> str:
        command = [sys.executable, __file__, "--part", part, "--folder", str(folder), *self.options]
        return run_python([*command, "--point", json.dumps(asdict(point))], str(point))

    def _compile(self, point: Point) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        self._run("compile", point, folder)
        return folder

    def _step(self, point: Point, folder: Path) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self._run("step", point, folder).splitlines()[-1])
        return result

    def measure(self, point: Point) -> tuple[dict[str, Any], dict[str, Any]]:
        """Results of a point, and of the reference in the same minute."""
        folder = self.reference if point == Point() else self._compile(point)
        measured = self._step(point, folder), self._step(Point(), self.reference)
        if folder != self.reference:
            shutil.rmtree(folder)
        return measured


def predict(result: dict[str, Any], reference: dict[str, Any]) -> tuple[float, float]:
    """Seconds and bytes, from the reference's rates."""
    matmul = reference["op_shares"]["gse_matmul"] * reference["seconds"]
    other = reference["seconds"] - matmul
    seconds = (
        matmul * result["products"] / reference["products"]
        + other * result["moved"] / reference["moved"]
    )
    return seconds, result["planned"] + reference["peak_rss_bytes"] - reference["planned"]


def write_table(rows: list[tuple[str, int, dict[str, Any], float, float]], path: Path) -> None:
    """Write and print Markdown, a line per point."""
    lines = [
        "| what | value | s / step | predicted | peak RSS, MB | predicted |",
        "|---|---|---|---|---|---|",
    ]
    for axis, value, r, seconds, memory in rows:
        time = f"{r['seconds']:.3f} | {seconds:.3f}"
        space = f"{r['peak_rss_bytes'] / 1e6:.0f} | {memory / 1e6:.0f}"
        lines.append(f"| {axis} | {value} | {time} | {space} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def draw(rows: list[tuple[str, int, dict[str, Any], float, float]], path: Path) -> None:
    """A column of plots per axis, time above memory. Points are measured, lines predicted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(AXES), figsize=(4 * len(AXES), 6), squeeze=False)
    for k, name in enumerate(AXES):
        own = [row for row in rows if row[0] == name]
        values = [row[1] for row in own]
        for line, (key, scale, label) in enumerate(FIGURES):
            plot = axes[line][k]
            plot.plot(
                values, [row[3 + line] / scale for row in own], label="predicted from its work"
            )
            plot.plot(values, [row[2][key] / scale for row in own], "o", label="measured")
            plot.set(xlabel=name, ylabel=label, ylim=(0, None), xlim=(0, None))
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    """All points, or with --part a part of one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("build/scaling"))
    parser.add_argument(
        "--axes", default=",".join(AXES), help="a part of them, separated by commas"
    )
    parser.add_argument("--steps", type=int, default=3, help="measured steps of a point")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=("compile", "step"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "compile":
        compile_point(Point(**args.point), args.folder)
        return
    if args.part == "step":
        bundle = args.folder / "point.gsqc"
        print(json.dumps({**gsqc_side(bundle, args.steps, args.threads), **work_of(bundle)}))
        return
    names = args.axes.split(",")
    if unknown := sorted(set(names) - set(AXES)):
        parser.error(f"unknown axis {unknown[0]}; --axes takes {', '.join(AXES)}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="gsqc-scaling-") as folder:
        bench = Bench(Path(folder), args.steps, args.threads)
        for name in names:
            field, values = AXES[name]
            for value in values:
                result, reference = bench.measure(Point(**{field: value}))
                rows.append((name, value, result, *predict(result, reference)))
    args.output.mkdir(parents=True, exist_ok=True)
    write_table(rows, args.output / "scaling.md")
    draw(rows, args.output / "scaling.png")


if __name__ == "__main__":
    main()
