# SPDX-License-Identifier: Apache-2.0
"""How long data takes to read: as `gsqc train` reads it at first, and when its tokens are kept.

    python benchmarks/reading.py --megabytes 200

The records have the demo's prompts, and completions of 20 to 120 words in a row of its definitions.
The peer is the tokenizers library, which parses and tokenises the same records and does no more.
Each is measured in a process of its own, with the processes that it starts.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Library

from gsqc.data import DataOptions, block_reader, load_split
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
    """Of this process and of those that it started and that ended."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def by_gsqc(path: Path, cache: Path, tokenizer_json: str, metadata: dict[str, Any]) -> None:
    """A start of a run. The tokens are kept beside it, or taken from there."""
    tokenizer, kept = Tokenizer.of_model(tokenizer_json, metadata), TokenCache(cache)
    load_split(DataOptions((path,)), tokenizer, LENGTH, cache=kept)
    kept.save()


def by_one_process(*arguments: Any) -> None:
    """As `by_gsqc` on one core. The tokenizer has a process of its own."""
    block_reader.default_threads = lambda: 1  # type: ignore[assignment]
    by_gsqc(*arguments)


def by_library(path: Path, _: Path, tokenizer_json: str, metadata: dict[str, Any]) -> None:
    """The tokens of prompts and completions, as lists."""
    tokenizer = Library.from_str(tokenizer_json)
    with path.open("rb") as file:
        while lines := list(islice(file, 500)):
            records = [json.loads(line) for line in lines]
            texts = [text for r in records for text in (r["prompt"] + "\n", r["completion"])]
            for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
                list(encoding.ids)


def measured(read: Callable[..., None], *arguments: Any) -> dict[str, float]:
    """Seconds, seconds of all processors, and the most memory."""
    start, cpu = time.perf_counter(), cpu_seconds()
    read(*arguments)
    wall = time.perf_counter() - start
    gc.collect()  # ends the tokenizer's process, so its time counts
    used, peak = cpu_seconds() - cpu, peak_rss_bytes() >> 20
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    times = {"seconds": round(wall, 1), "cpu_seconds": round(used, 1)}
    return {**times, "peak_mib": peak, "largest_child_mib": child}


def main() -> None:
    """Read the data in each way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=200)
    megabytes = parser.parse_args().megabytes
    model = load_model("smollm2-135m")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path, kept = Path(folder, "data.jsonl"), Path(folder, TOKENS)
        print(json.dumps({"records": write_data(path, megabytes * 10**6), "cores": os.cpu_count()}))
        ways = {"library": by_library, "one process": by_one_process}
        ways |= {"first start": by_gsqc, "second start": by_gsqc}
        for name, read in ways.items():
            if name == "first start":
                kept.unlink()
            with ProcessPoolExecutor(1, context) as pool:
                arguments = (path, kept, model.tokenizer_json, model.metadata)
                print(
                    json.dumps({"what": name, **pool.submit(measured, read, *arguments).result()})
                )


if __name__ == "__main__":
    main()
