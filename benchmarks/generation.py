# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of greedy generation: gsqc against transformers float32 with its cache, SmolLM2-135M, one run.

    python benchmarks/generation.py --tokens 64 --json

Both sides take the same prompt of random tokens and give the same number of new ones, in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from step_time import peak_rss_bytes, prepare

PROMPT = [(7919 * k + 13) % 49152 for k in range(16)]


def gsqc_side(folder: Path, tokens: int, threads: int) -> float:
    """Tokens per second, the prompt included in the time."""
    from gsqc.runtime.session import Session

    session = Session(folder / "model.gsqc", threads=threads)
    session.bundle.manifest["model"]["eos_token_id"] = None  # so that both sides give all tokens
    list(session.generate(PROMPT, 2))
    start = time.perf_counter()
    count = len(list(session.generate(PROMPT, tokens)))
    assert count == tokens
    return count / (time.perf_counter() - start)


def torch_side(folder: Path, tokens: int, threads: int) -> float:
    """Tokens per second, the prompt included in the time."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder / "torch", dtype=torch.float32).eval()
    prompt = torch.tensor([PROMPT])
    options = {"do_sample": False, "use_cache": True, "pad_token_id": 0, "attention_mask": torch.ones_like(prompt)}
    model.generate(prompt, max_new_tokens=2, min_new_tokens=2, **options)
    start = time.perf_counter()
    model.generate(prompt, max_new_tokens=tokens, min_new_tokens=tokens, **options)
    return tokens / (time.perf_counter() - start)


def run_side(side: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--tokens", str(args.tokens)]
    done = subprocess.run([*command, "--threads", str(args.threads)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """The comparison, or with --side one side of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bits", default="4-8-8")
    parser.add_argument("--target", default="native")
    parser.add_argument("--seq", type=int, default=256)
    parser.set_defaults(weights="fast", recompute="blocks")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=("gsqc", "torch"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        speed = (gsqc_side if args.side == "gsqc" else torch_side)(args.folder, args.tokens, args.threads)
        print(json.dumps({"tokens_per_second": speed, "peak_rss_bytes": peak_rss_bytes()}))
        return
    with tempfile.TemporaryDirectory(prefix="gsqc-generation-") as name:
        folder = Path(name)
        prepare(folder, args)
        rounds = [{side: run_side(side, folder, args) for side in ("gsqc", "torch")} for _ in range(args.rounds)]
    key = "tokens_per_second"
    result = {side: {k: statistics.median(r[side][k] for r in rounds) for k in rounds[0][side]} for side in rounds[0]}
    ratio = statistics.median(r["gsqc"][key] / r["torch"][key] for r in rounds)
    if args.json:
        print(json.dumps({"speed_ratio": ratio, **result}))
        return
    for side, values in result.items():
        print(f"{side:6s} {values[key]:6.1f} tokens/s   peak RSS {values['peak_rss_bytes'] / 1e6:.0f} MB")
    print(f"speed_ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
