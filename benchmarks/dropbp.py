# SPDX-License-Identifier: Apache-2.0
"""What DropBP saves: the share of a step's kernel calls, and of its time.

    python -m benchmarks.dropbp --rate 0.5 --steps 40
    python -m benchmarks.dropbp --model smollm2-135m --seq 256

Without --model it takes a random Llama of 12 layers and 192 columns. Two bundles of one model, at
rate 0 and at the rate that was asked for, take steps in turn in one process. The time is the CPU
time of one thread, so that other work on the machine disturbs it less. The ratio is that of the
sums over all steps but the first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from gsqc.bundle.plan import COPY, Plan
from gsqc.check.sequences import random_sequences
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.passes.optional.dropbp import KEPT, DropBP
from gsqc.runtime.session import Session
from gsqc.targets import NATIVE, resolve_target

RATE = Fraction(1, 1000)


def random_model() -> Any:
    """A Llama whose blocks take nearly all of a step."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 12}
    heads = {"num_attention_heads": 3, "num_key_value_heads": 1}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=2048, tie_word_embeddings=True, **sizes, **heads)
    )


def kernel_calls(plan: Plan, kept: list[int]) -> tuple[int, int]:
    """The kernel calls of a step that are left out, and all of them. A copy counts as one."""
    schedule, left_out, total = plan.schedules["train"], 0, 0
    for number, (name, _) in enumerate(schedule.calls):
        count = 1 if name == COPY else len(plan.functions[name].calls)
        guard = schedule.guards.get(number)
        total += count
        left_out += count if guard is not None and not kept[guard.offset] else 0
    return left_out, total


def take_step(session: Session, number: int) -> float:
    """The CPU seconds of a step."""
    sequences = random_sequences(session.bundle, number, 0)
    start = time.process_time()
    session.step(sequences, RATE)
    return time.process_time() - start


def measure(model: Any, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Both bundles, step by step in turn."""
    sessions, target = [], resolve_target(NATIVE)
    base = "nf4" if args.model is None else "gguf"
    for rate in ("0", args.rate):
        place = folder / f"rate-{rate}.gsqc"
        options = {"sequence_length": args.seq, "recompute": args.recompute}
        compile_model(
            model, CompileOptions(place, target, base=base, passes=(DropBP(rate),), **options)
        )
        sessions.append(Session(place, threads=1))
    seconds, left_out, total, kept = [0.0, 0.0], 0, 0, 0
    for number in range(1, args.steps + 2):
        spent = [take_step(session, number) for session in sessions]
        if number == 1:  # its memory is new
            continue
        choice = sessions[1].executor.tensors[KEPT].tolist()
        out, all_calls = kernel_calls(sessions[1].plan, choice)
        left_out, total, kept = left_out + out, total + all_calls, kept + sum(choice)
        seconds = [a + b for a, b in zip(seconds, spent, strict=True)]
    layers = sessions[1].bundle.manifest.model.layers
    return {
        "rate": args.rate,
        "recompute": args.recompute,
        "steps": args.steps,
        "blocks_kept": kept / (layers * args.steps),
        "calls_left_out": left_out / total,
        "seconds_rate_0": seconds[0] / args.steps,
        "seconds": seconds[1] / args.steps,
        "ratio": seconds[1] / seconds[0],
    }


def main() -> None:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", help="instead of a random one")
    parser.add_argument("--rate", default="0.5")
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--recompute", default="blocks")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(args.model or random_model(), args, Path(folder)), indent=2))


if __name__ == "__main__":
    main()
