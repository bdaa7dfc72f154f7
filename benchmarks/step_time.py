# SPDX-License-Identifier: Apache-2.0
"""One LoRA step of SmolLM2-135M: gsqc against PyTorch + peft, or ONNX Runtime training, on the same
work.

    python benchmarks/step_time.py --bits 4-8-8 --seq 256 --json
    python benchmarks/step_time.py --against torch-checkpoint
    python benchmarks/step_time.py --against ort --ort-python ~/ort/bin/python

Without --against all of torch's forms run, float32 and bfloat16, each also by torch.compile, and
the ratios are to the fastest. step_time_ort.py says how to get that Python.

The work: rank 16 on all seven linears, one sequence, loss on all tokens, AdamW, real weights. Each
round runs all sides in processes of their own, one after the other, on the same number of threads.
The report has the medians over the rounds, and the median of the rounds' ratios. The last JSON line
holds the ratios. To hold torch to AVX2 beside --target x86-64, set ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from gsqc_step import MODEL, gsqc_side, instruction_peak, run_python, timed
from step_time_torch import CHECKPOINT, FORMS, torch_step

BEST = "best"
SIDES = ("gsqc", *FORMS, CHECKPOINT, "ort")


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """The bundle, and the same weights as a Hugging Face directory."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from gsqc.compiler.compile import compile_model
    from gsqc.compiler.options import Bits, CompileOptions
    from gsqc.models.capture import capture_model
    from gsqc.targets import resolve_target

    target = resolve_target(args.target)
    bits = Bits.parse(args.bits)
    memory = {"weights": args.weights, "recompute": args.recompute}
    options = CompileOptions(
        folder / "model.gsqc", target, bits, "gguf", sequence_length=args.seq, **memory
    )
    compile_model(MODEL, options)
    weights = capture_model(MODEL, 32).weights
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        rope_theta=100000.0,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights.float32(name)))
    model.save_pretrained(folder / "torch")


def prepare_ort(folder: Path, args: argparse.Namespace) -> None:
    """The training artifacts of the Hugging Face directory."""
    import step_time_ort

    step_time_ort.export_forward(folder / "torch", folder / "ort", args.seq)
    run_python(
        [args.ort_python, step_time_ort.__file__, str(folder / "ort")], "onnxruntime-training"
    )


def run_side(side: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One side in a process of its own."""
    python = args.ort_python if side == "ort" else sys.executable
    command = [python, __file__, "--side", side, "--folder", str(folder), "--seq", str(args.seq)]
    command += ["--steps", str(args.steps), "--threads", str(args.threads)]
    printed = run_python(command, side, OMP_NUM_THREADS=str(args.threads), HF_HUB_OFFLINE="1")
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return result


def compare(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Run all rounds. Gives medians, and ratios to the fastest of the other sides."""
    others = FORMS if args.against == BEST else (args.against,)
    sides = ["gsqc", *others]
    rounds: list[dict[str, Any]] = []
    for number in range(args.rounds):
        results = {
            side: run_side(side, folder, args) for side in (sides if number % 2 else sides[::-1])
        }
        rounds.append(results)
        if args.json:
            print(json.dumps({"round": number + 1, **results}), flush=True)
    medians = {
        side: {
            k: statistics.median(r[side][k] for r in rounds)
            for k in ("seconds", "cpu_seconds", "peak_rss_bytes")
        }
        for side in sides
    }
    fastest = min(others, key=lambda side: medians[side]["seconds"])
    ratio = {
        name: statistics.median(r["gsqc"][key] / r[fastest][key] for r in rounds)
        for name, key in (
            ("time_ratio", "seconds"),
            ("cpu_ratio", "cpu_seconds"),
            ("memory_ratio", "peak_rss_bytes"),
        )
    }
    last = rounds[-1]["gsqc"]
    peak = instruction_peak(last["target"], args.bits, args.threads)
    shares = {
        "kernel_share_of_peak": last["gmacs"] / peak,
        "outside_matmul": 1 - last["op_shares"]["gse_matmul"],
    }
    details = {name: last[name] for name in ("op_shares", "matmul_gmacs", "gmacs")}
    return {
        **{"fastest": fastest, **ratio, **shares, **medians, **details},
        "instruction_peak_gmacs": peak,
    }


def print_table(result: dict[str, Any], args: argparse.Namespace) -> None:
    """Print the result as docs/performance.md shows it."""
    print(
        f"{platform.machine()}, {args.threads} threads, 1 x {args.seq}, {args.bits}, "
        f"target {args.target}"
    )
    print("| side | s / step | CPU-s / step | peak RSS, MB |\n|---|---|---|---|")
    for side in (s for s in SIDES if s in result):
        r = result[side]
        times = f"{r['seconds']:.2f} | {r['cpu_seconds']:.2f}"
        print(f"| {side} | {times} | {r['peak_rss_bytes'] / 1e6:.0f} |")
    names = ("time_ratio", "cpu_ratio", "memory_ratio", "kernel_share_of_peak", "outside_matmul")
    print(f"against {result['fastest']}: " + ", ".join(f"{k} {result[k]:.2f}" for k in names))
    print(f"matmuls: {result['gmacs']:.0f} GMAC/s of {result['instruction_peak_gmacs']:.0f}")
    print(
        "ops: "
        + ", ".join(f"{op} {share:.1%}" for op, share in list(result["op_shares"].items())[:8])
    )


def run_one_side(args: argparse.Namespace) -> dict[str, Any]:
    """The measurement of --side, in this process."""
    if args.side == "gsqc":
        return gsqc_side(args.folder / "model.gsqc", args.steps, args.threads)
    if args.side == "ort":
        import step_time_ort

        step = step_time_ort.ort_step(args.folder / "ort", args.seq, args.threads)
    else:
        step = torch_step(args.folder / "torch", args.seq, args.threads, args.side)
    return {**timed(step, args.steps)}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", choices=(BEST, *SIDES[1:]), default=BEST)
    parser.add_argument(
        "--ort-python",
        help="the Python of an environment with onnxruntime-training, for --against ort",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: see step_time_cuda.py"
    )
    parser.add_argument("--bits", default="4-8-8")
    parser.add_argument("--target", default="native")
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--weights", default="fast")
    parser.add_argument("--recompute", default="blocks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="measured steps of a process")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.against == "ort" and not (args.ort_python and os.access(args.ort_python, os.X_OK)):
        parser.error(
            "--against ort needs --ort-python PATH, a Python with onnxruntime-training "
            "(see step_time_ort.py)"
        )
    return args


def main() -> None:
    """The comparison, or with --side one side of it."""
    if {"cuda", "--device=cuda"} & set(sys.argv):
        import step_time_cuda

        sys.exit(step_time_cuda.main(sys.argv[1:]))
    args = parse_arguments()
    if args.side:
        print(json.dumps(run_one_side(args)))
        return
    with tempfile.TemporaryDirectory(prefix="gsqc-step-time-") as folder:
        prepare(Path(folder), args)
        if args.against == "ort":
            prepare_ort(Path(folder), args)
        result = compare(Path(folder), args)
    print(json.dumps(result)) if args.json else print_table(result, args)


if __name__ == "__main__":
    main()
