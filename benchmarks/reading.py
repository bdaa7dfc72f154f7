# SPDX-License-Identifier: Apache-2.0
"""How long data takes to read: as `gsqc train` reads it at first, and when its tokens are kept.

    python benchmarks/reading.py --megabytes 200

The records have the demo's prompts, and completions of 20 to 120 words in a row of its definitions.
CPU seconds are those of this process and of the tokenizer's. The peak is this process's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import time
from pathlib import Path

from gsqc.data import DataOptions, load_split
from gsqc.data.token_cache import TOKENS, TokenCache
from gsqc.data.tokenizer import Tokenizer
from gsqc.models import load_model
from gsqc.training.memory import peak_rss_bytes

WORDS = Path(__file__).parents[1] / "examples" / "devils-dictionary-train.jsonl"
LENGTH = 128


def write_data(path: Path, size: int) -> int:
    """Write records of about that many bytes in all: how many they are."""
    draw = random.Random(1)
    records = [json.loads(line) for line in WORDS.read_text(encoding="utf-8").splitlines()]
    words = [word for record in records for word in record["completion"].split()]
    count = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            start = draw.randrange(len(words) - 120)
            text = " ".join(words[start : start + draw.randrange(20, 120)])
            prompt = draw.choice(records)["prompt"]
            file.write(json.dumps({"prompt": prompt, "completion": text}) + "\n")
            count += 1
    return count


def cpu_seconds() -> float:
    """Of this process and of those that ended."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def read(path: Path, cache: Path) -> int:
    """A start on the data: how many sequences it has."""
    model = load_model("smollm2-135m")
    assert model.tokenizer_json is not None
    tokenizer, kept = Tokenizer.of_model(model.tokenizer_json, model.metadata), TokenCache(cache)
    dataset, _ = load_split(DataOptions((path,)), tokenizer, LENGTH, cache=kept)
    kept.save()
    return len(dataset.sequences)


def measured(path: Path, cache: Path) -> dict[str, float]:
    """The cost of a start. The tokenizer's process ends with `read`, so it is counted."""
    start, cpu = time.perf_counter(), cpu_seconds()
    sequences = read(path, cache)
    wall, used = time.perf_counter() - start, cpu_seconds() - cpu
    return {"sequences": sequences, "seconds": round(wall, 1), "cpu_seconds": round(used, 1)}


def main() -> None:
    """Read the data twice."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=200)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.jsonl")
        print(json.dumps({"records": write_data(path, megabytes * 10**6), "cores": os.cpu_count()}))
        for name in ("first", "second"):
            print(json.dumps({"start": name, **measured(path, Path(folder, TOKENS))}))
        print(json.dumps({"peak_mib": peak_rss_bytes() >> 20}))


if __name__ == "__main__":
    main()
