# SPDX-License-Identifier: Apache-2.0
"""Classifiers: their directories, a bundle and a run of one, and the texts with labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.data import DataOptions, load_split
from gsqc.data.tokenizer import Tokenizer
from gsqc.models import load_classifier
from gsqc.report.run_files import read_run
from gsqc.runtime.classify import classify_texts
from gsqc.runtime.session import Session
from tests.campaign import mutators, programs, readers
from tests.campaign.kinds import Command, Kind, write_known
from tests.campaign.model_corpus import (
    CLASSIFIED,
    CLASSIFIER,
    ENCODER,
    HEADLESS,
    LABELLED,
    TEXTS,
)
from tests.campaign.mutators import Mutator
from tests.campaign.readers import Reader

TABLE = f"{LABELLED}/a.csv"
_ANSWER: Command = ("classify", CLASSIFIER, "--text", "the film is good")
_TRAIN = ("train", CLASSIFIER, "--data", TEXTS, "--steps", "2", "--lr", "1e-2")
STEPS: tuple[Command, ...] = (
    *(_ANSWER, ("inspect", CLASSIFIER), ("eval", CLASSIFIER, "--data", TEXTS)),
    *((*_TRAIN, "--run", "new"), ("check", CLASSIFIER, "--steps", "1")),
    ("tokens", CLASSIFIER, *_TRAIN[2:], "-o", "new.safetensors"),
)
"""Commands that run the code of the classifier."""
RUNS: tuple[Command, ...] = (
    *((*_ANSWER, "--run", CLASSIFIED, "--best"), ("train", "--resume", CLASSIFIED)),
    *(("report", CLASSIFIED, "--no-measure"), ("compare", CLASSIFIED, CLASSIFIED)),
    ("export", CLASSIFIER, "--run", CLASSIFIED, "--merged", "new", "--model", ENCODER),
)


def answer() -> None:
    """The labels of a text, by the code of the bundle."""
    bundle = Bundle.open(Path(CLASSIFIER))
    classify_texts(Session(bundle, threads=1), Tokenizer(bundle), ["so good", "film"])


def labelled(name: str, *, packing: bool = False, validation: str | None = None) -> None:
    """A file of texts with labels as sequences."""
    options = DataOptions((Path(name),), True, packing, validation)
    dataset, _ = load_split(options, Tokenizer(readers.whole(CLASSIFIER)), 16)
    dataset.report()
    assert all(dataset.sequences[k].labels.size == 16 for k in range(len(dataset.sequences)))


def run() -> None:
    """A run with an accuracy in its log."""
    assert read_run(Path(CLASSIFIED)).steps >= 0


def _directory(place: str, file: str, change: Mutator, labels: str, weight: float) -> Kind:
    """A file of an encoder's directory, which is captured.

    The command is refused when it has read everything, for compiling takes too long.
    """
    read = partial(programs.capture, partial(load_classifier, place, labels))
    asked = ("--task", "classify", *(("--labels", labels) if labels else ()), "--seq", "8")
    command = ("compile", place, *asked, "-o", "new.gsqc", "--adapter", "lora:linears=nothing")
    path = f"{place}/{file}"
    name, commands = f"classifier {path}", (command,)
    return Kind(name, path, change, commands, (read,), weight, accepts=False)


def _data(name: str, change: Mutator) -> Kind:
    more: tuple[Command, ...] = ((), ("--packing",))
    commands = tuple(("data", name, "--bundle", CLASSIFIER, *m) for m in more)
    ways: tuple[Reader, ...] = (
        partial(labelled, name),
        partial(labelled, name, packing=True),
        partial(labelled, name, validation="20%"),
        partial(labelled, TEXTS, validation=name),
    )
    return Kind(f"classifier {name}", name, change, commands, ways, 2)


def classifier_kinds() -> list[Kind]:
    """The files of `model_corpus` that classifiers read."""
    json_, safetensors = mutators.change_json, mutators.change_safetensors

    def bundle(file: str, change: Mutator, known: bool = True) -> Kind:
        write = write_known if known else Path.write_bytes
        place = f"{CLASSIFIER}/{file}"
        return Kind(f"classifier {place}", place, change, STEPS, (answer,), 1, write=write)

    def of_run(file: str, change: Mutator) -> Kind:
        place = f"{CLASSIFIED}/{file}"
        return Kind(f"classifier {place}", place, change, RUNS, (run,), 1)

    return [
        _directory(ENCODER, "config.json", json_, "", 1),
        _directory(ENCODER, "model.safetensors", safetensors, "", 1),
        _directory(ENCODER, "tokenizer.json", json_, "", 0.5),
        _directory(HEADLESS, "config.json", json_, "no,yes", 0.5),
        _directory(HEADLESS, "model.safetensors", safetensors, "no,yes", 0.5),
        bundle("manifest.json", json_, known=False),
        bundle("tokenizer.json", json_),
        bundle("plan.json", json_),
        of_run("config.json", json_),
        of_run("log.jsonl", mutators.change_jsonl),
        _data(TEXTS, mutators.change_jsonl),
        _data(TABLE, mutators.change_bytes),
    ]
