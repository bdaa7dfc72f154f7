# SPDX-License-Identifier: Apache-2.0
"""How long `gsqc train` takes to its first step on much data: at first, and when it is resumed.

    python benchmarks/train_start.py --megabytes 200

The data is that of reading.py. The model is a Llama of one narrow layer with SmolLM2's tokenizer,
so that a step costs little. Each start has a terminal, and what it showed there is printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from reading import LENGTH, write_data

MODEL = """
import sys
import transformers
from gsqc.models import load_model
known = load_model("smollm2-135m")
heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, **heads}
vocabulary = {"vocab_size": known.module.config.vocab_size, "eos_token_id": 0}
config = transformers.LlamaConfig(**sizes, **vocabulary, tie_word_embeddings=True)
transformers.LlamaForCausalLM(config).save_pretrained(sys.argv[1])
open(sys.argv[1] + "/tokenizer.json", "w").write(known.tokenizer_json)
"""
"""A program, so that this process stays small: a process counts the memory of its parent."""
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLUMNS = 96


def run(*arguments: str) -> None:
    """Run a program of Python that must succeed."""
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def gsqc(*arguments: str) -> list[str]:
    """The arguments of Python that run a command."""
    return ["-c", "from gsqc.cli.main import run; run()", *arguments]


def logged(log: Path) -> int:
    """The last step in a log."""
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    return max((json.loads(line)["step"] for line in lines), default=0)


def start(arguments: list[str], log: Path, step: int) -> tuple[dict[str, Any], str]:
    """Run a command to its end: its cost, and what it wrote to its terminal.

    step  the step in the log at which the seconds end
    """
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": str(COLUMNS), "LINES": "40"}
    begun, reached, shown = time.monotonic(), 0.0, b""
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    while True:
        if not reached and logged(log) >= step:
            reached = time.monotonic() - begun
        if not select.select([ours], [], [], 0.02)[0]:
            continue
        try:
            shown += os.read(ours, 1 << 16)
        except OSError:  # the terminal has no writer any more
            break
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, shown
    cost = {
        "seconds_to_step": round(reached or time.monotonic() - begun, 1),
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "largest_process_mib": used.ru_maxrss >> 10,
    }
    return cost, shown.decode(errors="replace")


def screen(shown: str) -> list[str]:
    """The lines of a terminal in the order of time. Of those that begin alike, three at most."""
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", _CODES.sub("", shown))]
    lines = list(dict.fromkeys(filter(None, lines)))
    alike: dict[str, list[int]] = {}
    for k, line in enumerate(lines):
        alike.setdefault(line.split()[0], []).append(k)
    kept = {same[at] for same in alike.values() for at in (0, len(same) // 2, -1)}
    return [lines[k] for k in sorted(kept)]


def main() -> None:
    """Train a step, then resume the run for another."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=200)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as folder:
        data, model, bundle, place = (
            Path(folder, n) for n in ("data.jsonl", "model", "b.gsqc", "run")
        )
        print(json.dumps({"records": write_data(data, megabytes * 10**6), "cores": os.cpu_count()}))
        run("-c", MODEL, str(model))
        run(*gsqc("compile", str(model), "-o", str(bundle), "--seq", str(LENGTH)))
        first = ["train", str(bundle), "--data", str(data), "--steps", "1", "--run", str(place)]
        second = ["train", "--resume", str(place), "--steps", "2"]
        for step, arguments in enumerate((first, second), 1):
            cost, shown = start(gsqc(*arguments), place / "log.jsonl", step)
            load = os.getloadavg()[0]
            print(json.dumps({"start": step, **cost, "load": round(load, 1)}))
            print("".join(f"    {line}\n" for line in screen(shown)), end="", flush=True)


if __name__ == "__main__":
    main()
