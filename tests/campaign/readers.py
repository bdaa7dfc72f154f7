# SPDX-License-Identifier: Apache-2.0
"""Functions that read a file of the corpus as the Python API does, in the working directory.

They cost a millisecond where a command costs a hundred, so most cases go through them.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.check.golden_file import read_golden
from gsqc.check.sequences import random_sequences
from gsqc.data import DataOptions, load_split
from gsqc.data.tokenizer import Tokenizer
from gsqc.export.adapter import read_adapter
from gsqc.export.foreign.take import take_adapter
from gsqc.models import load_model
from gsqc.report.run_files import read_run
from gsqc.runtime.session import Session
from gsqc.runtime.store import BEST, STATE, RunStore
from gsqc.training.settings_file import read_settings

SMALL, REAL = "small.gsqc", "b.gsqc"
Reader = Callable[[], object]


@cache
def whole(name: str) -> Bundle:
    """The bundle as it was before any change."""
    return Bundle.open(Path(name))


def open_small() -> None:
    """The small bundle, and what its tokenizer makes of texts."""
    bundle = Bundle.open(Path(SMALL))
    tokenizer = Tokenizer(bundle)
    tokens = tokenizer.encode_prompt("a b\né") + tokenizer.encode("<end>")
    tokenizer.decode(tokens[:40])
    tokenizer.encode_each_with_ranges(["The rain", ""])
    load_split(DataOptions((Path("data/a.jsonl"),)), tokenizer, bundle.manifest.sequence_length)


def step_real() -> None:
    """A step, an evaluation and two tokens with the code of the real bundle."""
    session = Session(Path(REAL), threads=1)
    sequences = random_sequences(session.bundle, 1, 0)
    session.step(sequences, Fraction(1, 100))
    session.evaluate(sequences[:1])
    list(session.generate([1, 2], 2, Fraction(7, 10)))


def open_run() -> None:
    """A run, as training, export and report read it."""
    bundle = whole(REAL)
    store = RunStore(Path("run"), bundle)
    for name in (STATE, BEST):
        saved = store.load_state(bundle.plan.buffers["state"], name)
        if saved is not None:
            store.resume_log(saved[1])
    read_adapter(bundle, Path("run"))
    files = read_run(Path("run"))
    assert files.steps >= 0 and files.digest is not None and files.seconds != -1


def settings(name: str) -> None:
    """A settings file, and the lines of its errors."""
    file = read_settings(Path(name), ("compile", "train"))
    for table in file.tables:
        file.line(table)
    file.recorded()


def data(name: str, *, packing: bool = False, validation: str | None = None) -> None:
    """A file of data as sequences."""
    tokenizer = Tokenizer(whole(SMALL))
    options = DataOptions((Path(name),), True, packing, validation)
    dataset, _ = load_split(options, tokenizer, 256)
    dataset.report()
    assert all(dataset.sequences[k].tokens.size == 256 for k in range(len(dataset.sequences)))


def golden() -> None:
    """A file of golden digests."""
    read_golden(Path("golden.json"), whole(REAL), 0, 3)


def model(name: str) -> None:
    """A model with all its weights, and its tokenizer."""
    loaded = load_model(name)
    for weight in loaded.weights.names():
        loaded.weights.float32(weight)
        loaded.weights.code_kind(weight)
    if loaded.tokenizer_json is not None:
        tokenizer = Tokenizer.of_model(loaded.tokenizer_json, loaded.metadata)
        tokenizer.decode(tokenizer.encode_prompt("a b"))


def adapter(kind: str, name: str) -> None:
    """An adapter of another program."""
    take_adapter(whole(REAL), Path(name), kind, None)


def data_readers(name: str) -> tuple[Reader, ...]:
    """A file of data: alone, packed, split, and beside held-out data."""
    return (
        partial(data, name),
        partial(data, name, packing=True),
        partial(data, name, validation="20%"),
        partial(data, "data/text.txt", validation=name),
    )
