# SPDX-License-Identifier: Apache-2.0
"""One LoRA step of SmolLM2-135M on a GPU: gsqc against torch bfloat16 + peft and against QLoRA
(bitsandbytes NF4).

    python benchmarks/step_time.py --device cuda --json

The work: rank 16 on all seven linears, 1 x 1024 and 8 x 1024 tokens, loss on all of them, AdamW,
the same weights. Each side runs in a process of its own. The report has the median seconds of a
step, the memory that the side takes on the GPU, and the ratios of gsqc to the others. First `gsqc
check` compares numpy and cuda for a step of 1 x 32, so that what is timed is right. The benchmark
needs an NVIDIA GPU, nvcc, peft and bitsandbytes, and takes less than 8 minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

SIDES = ("gsqc", "torch-bf16", "qlora")
BATCHES = (1, 8)
WARM_UP = 3


def timed(step: Callable[[], Any], count: int) -> float:
    """The median of the seconds of a step that returns when the GPU has done it."""
    for _ in range(WARM_UP):
        step()
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def gsqc_side(folder: Path, batch: int, steps: int) -> dict[str, Any]:
    """gsqc's step, and the size of its tensors, which lie in memory that host and GPU share."""
    from gsqc.check.sequences import random_sequences
    from gsqc.runtime.session import Session

    session = Session(folder / f"batch-{batch}.gsqc")
    sequences = random_sequences(session.bundle, 1, 0)
    seconds = timed(lambda: session.step(sequences, Fraction(1, 1000)), steps)
    used = session.executor.arena.nbytes + sum(t.nbytes for t in session.executor.tensors.values())
    return {"seconds": seconds, "device_bytes": used}


def torch_side(
    folder: Path, batch: int, seq: int, steps: int, device: str, four_bits: bool
) -> dict[str, Any]:
    """PyTorch with bfloat16 weights, or with NF4 ones of bitsandbytes, and peft."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    torch.manual_seed(0)
    nf4 = {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": torch.bfloat16,
    }
    form = {"quantization_config": BitsAndBytesConfig(**nf4)} if four_bits else {}
    model = AutoModelForCausalLM.from_pretrained(
        folder / "torch", dtype=torch.bfloat16, device_map=device, **form
    )
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules=names, lora_dropout=0.0)
    )
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    tokens = torch.randint(0, model.config.vocab_size, (batch, seq), device=device)

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    seconds = timed(step, steps)
    return {
        "seconds": seconds,
        "device_bytes": torch.cuda.max_memory_reserved() if device == "cuda" else 0,
    }


def run_side(args: argparse.Namespace) -> dict[str, Any]:
    """What `--side` asks for, in this process."""
    if args.side == "gsqc":
        return gsqc_side(args.folder, args.batch, args.steps)
    return torch_side(
        args.folder, args.batch, args.seq, args.steps, args.device, args.side == "qlora"
    )


def start_side(side: str, folder: Path, batch: int, args: argparse.Namespace) -> dict[str, Any]:
    """A side in a process of its own. If it did not run, its result says why."""
    command = [
        sys.executable,
        __file__,
        "--side",
        side,
        "--folder",
        str(folder),
        "--batch",
        str(batch),
    ]
    command += ["--seq", str(args.seq), "--steps", str(args.steps), "--device", args.device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"not_run": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def prepare(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Bundles for each batch, the same weights for torch, and the digests of a step in numpy and on
    the GPU.
    """
    from gsqc_step import MODEL
    from step_time import prepare as prepare_both

    from gsqc.check.check import run_check
    from gsqc.compiler.compile import compile_model
    from gsqc.compiler.options import CompileOptions

    short = {"target": "cuda", "base": "gguf", "sequence_length": 32}
    compile_model(MODEL, CompileOptions(folder / "check.gsqc", **short))
    checked = run_check(folder / "check.gsqc", ["numpy", "cuda"], 1)
    if not checked.equal:
        raise SystemExit(f"numpy and cuda differ: {checked.first_difference or checked.not_run}")
    prepare_both(folder, argparse.Namespace(target="cuda", bits=args.bits, seq=args.seq))
    (folder / "model.gsqc").rename(folder / "batch-1.gsqc")
    options = {"target": "cuda", "base": "gguf", "sequence_length": args.seq, "batch": 8}
    compile_model(MODEL, CompileOptions(folder / "batch-8.gsqc", **options))
    return {"digests": checked.targets}


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """All sides at all batches. GsqcError if there is no GPU."""
    from gsqc.targets.cuda.driver import CudaDriver

    CudaDriver()
    with tempfile.TemporaryDirectory(prefix="gsqc-step-time-") as name:
        folder = Path(name)
        result = prepare(folder, args)
        for batch in BATCHES:
            sides = {side: start_side(side, folder, batch, args) for side in SIDES}
            ours = sides["gsqc"].get("seconds")
            ratios = {
                f"time_ratio_{s}": ours / r["seconds"]
                for s, r in sides.items()
                if ours and "seconds" in r
            }
            result[f"{batch}x{args.seq}"] = {**sides, **ratios}
    return result


def print_table(result: dict[str, Any]) -> None:
    """For people, and for docs/performance.md."""
    print("| tokens | side | s / step | GPU memory, MB |\n|---|---|---|---|")
    for shape, sides in result.items():
        for side in SIDES if shape != "digests" else ():
            r = sides[side]
            text = (
                f"{r['seconds']:.3f} | {r['device_bytes'] / 1e6:.0f}"
                if "seconds" in r
                else f"{r['not_run']} | "
            )
            print(f"| {shape} | {side} | {text} |")


def main(arguments: list[str]) -> int:
    """The comparison, or with --side one side of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: for a dry run of one side"
    )
    parser.add_argument("--bits", default="4-8-8")
    parser.add_argument("--seq", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=10, help="measured steps of a process")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    from gsqc.errors import GsqcError

    try:
        result = run_side(args) if args.side else compare(args)
    except GsqcError as error:
        print(f"{error}; {error.hint}", file=sys.stderr)
        return 2
    print(json.dumps(result)) if args.json or args.side else print_table(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
