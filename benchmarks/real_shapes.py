# SPDX-License-Identifier: Apache-2.0
"""Models at their real shapes, with random weights: what compiling them and a step of them cost.

    python benchmarks/real_shapes.py --only gpt2,qwen2.5-0.5b

Weights do not change time or memory, so the figures are those of the real models. Each model is
written once in bfloat16. plan, compile and step run in processes of their own, whose peaks are
their own. The step is one sequence.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsqc_step import run_python, side_command

MIB = 1 << 20
HERE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Shape:
    """A model's type, and the settings in which it differs from its type's defaults."""

    type: str
    settings: dict[str, Any] = field(default_factory=dict)


def _decoder(hidden: int, layers: int, heads: int, kv: int, ffn: int, vocabulary: int) -> Any:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": ffn,
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
    }


SHAPES = {
    "gpt2": Shape("gpt2"),
    "gemma-3-270m": Shape(
        "gemma3_text",
        {**_decoder(640, 18, 4, 1, 2048, 262144), "head_dim": 256, "sliding_window": 512},
    ),
    "qwen2.5-0.5b": Shape("qwen2", _decoder(896, 24, 14, 2, 4864, 151936)),
    "qwen3-0.6b": Shape("qwen3", {**_decoder(1024, 28, 16, 8, 3072, 151936), "head_dim": 128}),
    "llama-3.2-1b": Shape("llama", {**_decoder(2048, 16, 32, 8, 8192, 128256), "head_dim": 64}),
    "smollm3-3b": Shape("smollm3", _decoder(2048, 36, 16, 4, 11008, 128256)),
    "qwen2.5-7b": Shape(
        "qwen2", {**_decoder(3584, 28, 28, 4, 18944, 152064), "tie_word_embeddings": False}
    ),
}
"""As in the config.json of each model on the Hugging Face hub."""

WRITE = """
import json, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
kind, settings, folder = sys.argv[1], json.loads(sys.argv[2]), Path(sys.argv[3])
torch.manual_seed(0)
config = AutoConfig.for_model(kind, **settings)
with torch.device("meta"):
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
folder.mkdir()
config.save_pretrained(folder)
places, count = {}, 0
for number, (name, weight) in enumerate(model.named_parameters()):
    drawn = torch.empty(weight.shape, dtype=torch.bfloat16)
    drawn = drawn.normal_(0, 0.02) if weight.ndim > 1 else drawn.fill_(name.endswith("weight"))
    places[name], count = f"part-{number}.safetensors", count + weight.numel()
    save_file({name: drawn}, folder / places[name])
index = {"metadata": {}, "weight_map": places}
(folder / "model.safetensors.index.json").write_text(json.dumps(index))
print(count)
"""
"""A tensor at a time, because a model of 7B takes 15 GB."""


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MiB of a command. End with its last lines if it fails."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            output.seek(0)
            raise SystemExit(f"{' '.join(command[:5])} failed:\n{output.read()[-2000:]}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def measure(name: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What a shape costs."""
    shape, modules = SHAPES[name], f"{HERE}:{HERE / 'benchmarks'}"
    model, bundle = folder / name, folder / f"{name}.gsqc"
    settings = json.dumps(shape.settings)
    write = [sys.executable, "-c", WRITE, shape.type, settings, str(model)]
    parameters = int(run_python(write, "writing").splitlines()[0])
    gsqc = [sys.executable, "-m", "gsqc"]
    options = ["--seq", str(args.seq), "--weights", args.weights, "--bits", args.bits]
    _, plan_mib = measured([*gsqc, "plan", str(model), *options])
    compile_s, compile_mib = measured([*gsqc, "compile", str(model), *options, "-o", str(bundle)])
    planned = json.loads((bundle / "manifest.json").read_text())["planned_peak_bytes"]
    step = side_command(bundle, args.steps, args.threads)
    found = json.loads(run_python(step, "the step", PYTHONPATH=modules).splitlines()[-1])
    return {
        "model": name,
        "parameters": parameters,
        "plan_mib": round(plan_mib),
        "compile_seconds": round(compile_s),
        "compile_mib": round(compile_mib),
        "step_seconds": round(found["seconds"], 2),
        "planned_mib": round(planned / MIB),
        "peak_mib": round(found["peak_rss_bytes"] / MIB),
    }


def main() -> None:
    """Measure the shapes that are asked for, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(SHAPES), help="names, with commas")
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--bits", default="4-8-8")
    parser.add_argument("--weights", default="fast")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    names = args.only.split(",")
    if unknown := [name for name in names if name not in SHAPES]:
        parser.error(f"no shape {', '.join(unknown)}; there are {', '.join(SHAPES)}")
    for name in names:
        with tempfile.TemporaryDirectory(prefix="gsqc-shapes-") as folder:
            print(json.dumps(measure(name, args, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
