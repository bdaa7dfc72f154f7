# SPDX-License-Identifier: Apache-2.0
"""One LoRA step of SmolLM2-135M: gsqc against PyTorch float32 + peft, or ONNX Runtime training, on
the same work.

    python benchmarks/step_time.py --against torch --bits 4-8-8 --seq 256 --json
    python benchmarks/step_time.py --against ort --ort-python ~/ort/bin/python     # step_time_ort.py says how to get it

The work: rank 16 on all seven linears, one sequence, loss on all tokens, AdamW, real weights. Each
round runs both sides in processes of their own, one after the other, on the same threads; reported
are medians over the rounds, and the median of the rounds' ratios. The last JSON line holds the
ratios. To hold torch to AVX2 beside --target x86-64, set ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m"
SIDES = ("gsqc", "torch", "torch-checkpoint", "ort")


def peak_rss_bytes() -> int:
    """The largest resident memory of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def timed(step: Callable[[], None], count: int) -> dict[str, float]:
    """Medians of wall and CPU seconds of a step, after one to warm up."""
    step()
    wall, cpu = [], []
    for _ in range(count):
        start, used = time.perf_counter(), time.process_time()
        step()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {
        "seconds": statistics.median(wall),
        "cpu_seconds": statistics.median(cpu),
        "peak_rss_bytes": peak_rss_bytes(),
    }


def gsqc_side(bundle: Path, steps: int, threads: int) -> dict[str, Any]:
    """gsqc's step, and the shares of its ops."""
    from gsqc.check.sequences import random_sequences
    from gsqc.runtime.session import Session

    session = Session(bundle, threads=threads)
    batch = random_sequences(session.bundle, 1, 0)
    result = timed(lambda: session.step(batch, Fraction(1, 1000)) and None, steps)
    return {**result, **op_times(session), "target": session.target}


def instruction_peak(target: str, bits: str, threads: int) -> float:
    """GMAC/s of the instruction that the target's linears are made of, in registers, on all threads
    at once.
    """
    bytes_fit = all(int(b) < 8 for b in bits.split("-")[1:])
    instruction = "vpdpbusd" if target == "x86-64-vnni" else "pmaddubsw" if bytes_fit else "pmaddwd"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "instruction_peak"
        source = Path(__file__).with_suffix("").with_name("instruction_peak.c")
        subprocess.run(["cc", "-O2", "-march=native", str(source), "-o", str(program)], check=True)
        running = [
            subprocess.Popen([program], stdout=subprocess.PIPE, text=True) for _ in range(threads)
        ]
        outputs = [process.communicate()[0] for process in running]
    return sum(
        float(dict(line.split() for line in text.splitlines())[instruction]) for text in outputs
    )


def op_times(session: Any) -> dict[str, Any]:
    """Seconds of each op in one step, and GMAC/s of each matmul shape: the least of three runs of
    each call.
    """
    executor, plan = session.executor, session.plan
    parts = executor.bound("train")  # one sequence, updates included
    names = [name for part in parts for name in part.kernels]
    calls = [(part.program, k) for part in parts for k in range(len(part.kernels))]
    seconds = [float("inf")] * len(calls)
    for _ in range(3):
        for k, (program, number) in enumerate(calls):
            start = time.perf_counter()
            program.run_one(number)
            seconds[k] = min(seconds[k], time.perf_counter() - start)
    ops: dict[str, float] = {}
    matmuls: dict[str, list[float]] = {}
    for name, spent in zip(names, seconds, strict=True):
        op = plan.kernels[name].op if name in plan.kernels else name.removeprefix("@")
        ops[op] = ops.get(op, 0.0) + spent
        if op == "gse_matmul":
            x, w = (value[2][0][0] for value in plan.kernels[name].inputs)
            entry = matmuls.setdefault(
                f"{'x'.join(map(str, x))} by {'x'.join(map(str, w))}", [0.0, 0.0]
            )
            entry[0] += spent
            entry[1] += float(w[-2]) * x[0] * x[1] * (x[2] if len(x) == 3 else 1)
    total = sum(ops.values())
    shares = {op: spent / total for op, spent in sorted(ops.items(), key=lambda item: -item[1])}
    speeds = {shape: macs / spent / 1e9 for shape, (spent, macs) in matmuls.items()}
    main = sum(m for _, m in matmuls.values()) / sum(s for s, _ in matmuls.values()) / 1e9
    return {"op_shares": shares, "matmul_gmacs": speeds, "gmacs": main}


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


def run_python(command: list[str], what: str, **environment: str) -> str:
    """Run a command and return what it prints; end with its last lines if it fails."""
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-2000:]}")
    return done.stdout


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
    """All rounds; medians and ratios."""
    sides = ["gsqc", args.against]
    rounds: list[dict[str, Any]] = []
    for number in range(args.rounds):
        results = {
            side: run_side(side, folder, args) for side in (sides if number % 2 else sides[::-1])
        }
        rounds.append(results)
        if args.json:
            print(json.dumps({"round": number + 1, **results}), flush=True)
    ratio = {
        name: statistics.median(r["gsqc"][key] / r[args.against][key] for r in rounds)
        for name, key in (
            ("time_ratio", "seconds"),
            ("cpu_ratio", "cpu_seconds"),
            ("memory_ratio", "peak_rss_bytes"),
        )
    }
    medians = {
        side: {
            k: statistics.median(r[side][k] for r in rounds)
            for k in ("seconds", "cpu_seconds", "peak_rss_bytes")
        }
        for side in sides
    }
    last = rounds[-1]["gsqc"]
    peak = instruction_peak(last["target"], args.bits, args.threads)
    shares = {
        "kernel_share_of_peak": last["gmacs"] / peak,
        "outside_matmul": 1 - last["op_shares"]["gse_matmul"],
    }
    details = {name: last[name] for name in ("op_shares", "matmul_gmacs", "gmacs")}
    return {**ratio, **shares, **medians, **details, "instruction_peak_gmacs": peak}


def print_table(result: dict[str, Any], args: argparse.Namespace) -> None:
    """For people, and for docs/performance.md."""
    print(
        f"{platform.machine()}, {args.threads} threads, 1 x {args.seq}, {args.bits}, target {args.target}"
    )
    print("| side | s / step | CPU-s / step | peak RSS, MB |\n|---|---|---|---|")
    for side in ("gsqc", args.against):
        r = result[side]
        print(
            f"| {side} | {r['seconds']:.2f} | {r['cpu_seconds']:.2f} | {r['peak_rss_bytes'] / 1e6:.0f} |"
        )
    names = ("time_ratio", "cpu_ratio", "memory_ratio", "kernel_share_of_peak", "outside_matmul")
    print(", ".join(f"{k} {result[k]:.2f}" for k in names))
    print(f"matmuls: {result['gmacs']:.0f} GMAC/s of {result['instruction_peak_gmacs']:.0f}")
    print(
        "ops: "
        + ", ".join(f"{op} {share:.1%}" for op, share in list(result["op_shares"].items())[:8])
    )


def main() -> None:
    """The comparison, or with --side one side of it."""
    if {"cuda", "--device=cuda"} & set(sys.argv):
        import step_time_cuda

        sys.exit(step_time_cuda.main(sys.argv[1:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", choices=SIDES[1:], default="torch")
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
            "--against ort needs --ort-python PATH, a Python with onnxruntime-training (see step_time_ort.py)"
        )
    if args.side == "gsqc":
        print(json.dumps(gsqc_side(args.folder / "model.gsqc", args.steps, args.threads)))
    elif args.side == "ort":
        import step_time_ort

        print(
            json.dumps(
                timed(
                    step_time_ort.ort_step(args.folder / "ort", args.seq, args.threads), args.steps
                )
            )
        )
    elif args.side:
        import step_time_torch

        checkpoint = args.side == "torch-checkpoint"
        step = step_time_torch.torch_step(args.folder / "torch", args.seq, args.threads, checkpoint)
        print(json.dumps(timed(step, args.steps)))
    else:
        with tempfile.TemporaryDirectory(prefix="gsqc-step-time-") as folder:
            prepare(Path(folder), args)
            if args.against == "ort":
                prepare_ort(Path(folder), args)
            result = compare(Path(folder), args)
        print(json.dumps(result)) if args.json else print_table(result, args)


if __name__ == "__main__":
    main()
