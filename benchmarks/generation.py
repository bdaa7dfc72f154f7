# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of greedy generation: gsqc against transformers float32 with its cache,
SmolLM2-135M, one run.

    python benchmarks/generation.py --tokens 64 --json

Both sides take the same prompt of random tokens and give the same number of new ones, in processes
of their own. A second figure is the speed at which a long prompt is read: --prompt tokens in the
time to the first new token.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from gsqc_step import peak_rss_bytes
from step_time import prepare

PROMPT = [(7919 * k + 13) % 49152 for k in range(16)]
Speeds = dict[str, float]


def speeds(generate: Callable[[list[int], int], int], tokens: int, prompt: int) -> Speeds:
    """New tokens per second, where the time includes the short prompt, and tokens of a long prompt
    per second, the best of 3.
    """
    generate(PROMPT, 2)
    start = time.perf_counter()
    assert generate(PROMPT, tokens) == tokens
    speed = tokens / (time.perf_counter() - start)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        generate([(7919 * k + 13) % 49152 for k in range(prompt)], 1)
        seconds.append(time.perf_counter() - start)
    return {"tokens_per_second": speed, "prompt_tokens_per_second": prompt / min(seconds)}


def gsqc_side(folder: Path, tokens: int, prompt: int, threads: int) -> Speeds:
    """gsqc's speeds."""
    from gsqc.runtime.session import Session

    session = Session(folder / "model.gsqc", threads=threads)
    bundle = session.bundle
    # Without ends, both sides give all tokens.
    model = replace(bundle.manifest.model, eos_token_id=None, end_token_ids=None)
    bundle.manifest = replace(bundle.manifest, model=model)
    return speeds(lambda start, count: len(list(session.generate(start, count))), tokens, prompt)


def torch_side(folder: Path, tokens: int, prompt: int, threads: int) -> Speeds:
    """The speeds of transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder / "torch", dtype=torch.float32).eval()

    def generate(start: list[int], count: int) -> int:
        given = torch.tensor([start])
        options = {
            "do_sample": False,
            "use_cache": True,
            "pad_token_id": 0,
            "attention_mask": torch.ones_like(given),
        }
        made = model.generate(given, max_new_tokens=count, min_new_tokens=count, **options)
        return int(made.shape[1]) - len(start)

    return speeds(generate, tokens, prompt)


def run_side(side: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--side",
        side,
        "--folder",
        str(folder),
        "--tokens",
        str(args.tokens),
    ]
    command += ["--threads", str(args.threads), "--prompt", str(args.prompt)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument(
        "--prompt", type=int, default=192, help="tokens of the long prompt, fewer than --seq"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bits", default="4-8-8")
    parser.add_argument("--target", default="native")
    parser.add_argument("--seq", type=int, default=256)
    parser.set_defaults(weights="fast", recompute="blocks")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=("gsqc", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(args: argparse.Namespace) -> tuple[dict[str, float], dict[str, Speeds]]:
    """Run all rounds. Gives the medians of their ratios, and each side's medians."""
    with tempfile.TemporaryDirectory(prefix="gsqc-generation-") as name:
        folder = Path(name)
        prepare(folder, args)
        rounds = [
            {side: run_side(side, folder, args) for side in ("gsqc", "torch")}
            for _ in range(args.rounds)
        ]
    result = {
        side: {k: statistics.median(r[side][k] for r in rounds) for k in rounds[0][side]}
        for side in rounds[0]
    }
    ratios = {
        name: statistics.median(r["gsqc"][key] / r["torch"][key] for r in rounds)
        for name, key in (
            ("speed_ratio", "tokens_per_second"),
            ("prompt_ratio", "prompt_tokens_per_second"),
        )
    }
    return ratios, result


def main() -> None:
    """The comparison, or with --side one side of it."""
    args = parse_arguments()
    if args.side:
        run = gsqc_side if args.side == "gsqc" else torch_side
        figures = run(args.folder, args.tokens, args.prompt, args.threads)
        print(json.dumps({**figures, "peak_rss_bytes": peak_rss_bytes()}))
        return
    ratios, result = compare(args)
    if args.json:
        print(json.dumps({**ratios, **result}))
        return
    for side, values in result.items():
        spoken, read = values["tokens_per_second"], values["prompt_tokens_per_second"]
        memory = values["peak_rss_bytes"] / 1e6
        print(
            f"{side:6s} {spoken:6.1f} tokens/s   prompt of {args.prompt}: {read:6.0f} tokens/s   "
            f"RSS {memory:.0f} MB"
        )
    print(", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))


if __name__ == "__main__":
    main()
