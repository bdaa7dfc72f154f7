# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the public functions refuses wrong values with an OptionError or DataError.

The tables are compared with the signatures, so a new parameter without a wrong value fails.
"""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gsqc
import gsqc.errors
import gsqc.training.open_run
from gsqc.cli.app import COMMANDS
from gsqc.cli.command import as_command
from gsqc.cli.config import NOT_SETTINGS
from gsqc.compiler.options import CompileOptions
from gsqc.data.prompt import PromptOptions
from gsqc.errors import BundleError, DataError, FileError, GsqcError, OptionError, RunError
from gsqc.option import Option, options_of
from gsqc.targets.registry import target_options
from gsqc.training.options import TrainOptions
from tests.runtime.small_bundle import VOCABULARY, FakeSession, manifest, write_bundle

NAN = float("nan")
REFUSED = (OptionError, DataError, RunError, BundleError, FileError)
"""What a wrong value may be: the last three for paths that name no run and no bundle."""
PATHS: list[Any] = [5, b"x", "a\0b", "\ud800"]
TRUTHS: list[Any] = ["no", 1, 0.0, []]
COUNTS: list[Any] = [-1, True, 1.5, "3", NAN, 10**30, np.int64(-1), np.float64(1)]
NUMBERS: list[Any] = [-1, NAN, float("inf"), "nan", "x", True, [], np.float64(-0.1)]
FUNCTIONS: list[Any] = [5, "print", None]
DATA: list[Any] = [
    *([], (), None, 5, b"notes", [None], "a\0b", {"prompt": "a", "completion": "b"}),
    *([{"prompt": "a", "completion": "b"}, "notes.jsonl"], [{"text": object()}], [{}], [[1]]),
    *([{"text": "a"}, {"text": 5}], [{"prompt": "a", "completion": NAN}]),
]
WRONG: dict[str, dict[str, list[Any]]] = {
    "compile": {
        "model": [None, 5, b"x", "a\0b", []],
        "output": PATHS,
        "target": [None, 5, "pdp-11"],
        "bits": [None, 4, "4-8", "4-9-8"],
        "base": [5, "float"],
        "adapter": [5, "lora:rank=0,alpha=1", "lora:depth=3"],
        "seq": [*COUNTS, 0, None],
        "download": [*TRUTHS, None],
        "progress": FUNCTIONS,
    },
    "train": {
        "bundle": [*PATHS, None, "absent"],
        "data": DATA,
        "run": [*PATHS, None],
        "validation": [d for d in DATA if d is not None] + [2.0, -0.5, True, NAN, ["a", "b"]],
        "mask_prompt": [*TRUTHS, None],
        "packing": [*TRUTHS, None],
        "prompt_end": [5, None, "x" * 257],
        "strict": [*TRUTHS, None],
        "images": [*[path for path in PATHS if path is not None], "absent"],
        "threads": [0, *COUNTS],
        "progress": [*TRUTHS, None],
        **dict.fromkeys(("on_step", "on_evaluate", "on_save", "on_note"), FUNCTIONS),
    },
    "evaluate": {
        "bundle": [*PATHS, None, "absent"],
        "data": DATA,
        "run": [*PATHS, "absent"],
        "best": [*TRUTHS, None],
        "mask_prompt": TRUTHS,
        "validation": [2.0, -0.5, True, "a.jsonl"],
        "held_out": [*TRUTHS, None],
        "perplexity": [*PATHS, "absent", "notes.jsonl"],
        "limit": [0, *COUNTS],
        "threads": [0, *COUNTS],
    },
    "generate": {
        "bundle": [*PATHS, None, "absent"],
        "prompt": [[], [-1], [VOCABULARY], [1.5], None, 5, "\ud800"],
        "run": [*PATHS, "absent"],
        "best": [*TRUTHS, None],
        "max_tokens": [0, None, *COUNTS],
        "strict": [*TRUTHS, None],
        "chat": [*TRUTHS, None, True],
        "system": [5, b"x", "\ud800"],
        "temperature": [*NUMBERS, 101, None],
        "seed": [None, *COUNTS],
        "threads": [0, *COUNTS],
    },
    "classify": {
        "bundle": [*PATHS, None, "absent", "small.gsqc"],
        "texts": ["", " ", None, 5, b"good", "a\0b", "\ud800", [5], [["good"]], [""]],
        "run": [*PATHS, "absent"],
        "best": [*TRUTHS, None],
        "threads": [0, *COUNTS],
    },
}
GIVEN: dict[str, dict[str, Any]] = {
    "compile": {"model": "absent"},
    "train": {"data": "notes.jsonl", "run": "run", "steps": 2, "bundle": "small.gsqc"},
    "evaluate": {"data": "notes.jsonl", "bundle": "small.gsqc"},
    "generate": {"prompt": [1, 2], "bundle": "small.gsqc", "max_tokens": 1},
    "classify": {"texts": [], "bundle": "labelled.gsqc"},
}
OPTIONS = {
    "compile": CompileOptions,
    "train": TrainOptions,
    "evaluate": PromptOptions,
    "generate": PromptOptions,
}
"""The functions that take the options of a class by name."""


def wrong_of(option: Option) -> list[Any]:
    """Wrong values of a declared option, by its type."""
    if option.choices:
        return ["nonsense", 5, ["linear"]]
    if option.kind is int:
        most = option.maximum or 0
        return [v for v in (*COUNTS, most + 1) if not (v == 10**30 and most > v)]
    kinds: dict[type, list[Any]] = {float: NUMBERS, bool: [*TRUTHS, None], Path: PATHS}
    return kinds.get(option.kind, [5])


def name_of(option: Option) -> str:
    return option.name if option.name != "sequence_length" else "seq"


def all_wrong(function: str) -> dict[str, list[Any]]:
    """Wrong values of every parameter of a function."""
    declared = options_of(OPTIONS[function]) if function in OPTIONS else ()
    return {**{name_of(o): wrong_of(o) for o in declared}, **WRONG[function]}


def cases() -> Iterator[Any]:
    for function in WRONG:
        for name, values in all_wrong(function).items():
            for number, value in enumerate(values):
                yield pytest.param(function, name, value, id=f"{function}-{name}-{number}")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a bundle and data."""
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    monkeypatch.setattr("gsqc.runtime.open_session.Session", FakeSession)
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "small.gsqc")
    model = replace(manifest().model, labels=("no", "yes"))
    write_bundle(tmp_path / "labelled.gsqc", model=model)
    (tmp_path / "notes.jsonl").write_text('{"prompt": "ab", "completion": "cd"}\n' * 3)
    return tmp_path


@pytest.mark.parametrize(("function", "name", "value"), [*cases()])
def test_a_wrong_value_is_refused(place: Path, function: str, name: str, value: Any) -> None:
    given = {**GIVEN[function], name: value}
    if name == "epochs":
        del given["steps"]
    with pytest.raises(REFUSED) as error:
        getattr(gsqc, function)(**given)
    assert error.value.hint in "".join(traceback.format_exception(error.value))
    assert not (place / "run").exists()


@pytest.mark.parametrize("function", WRONG)
def test_the_tables_have_every_parameter(function: str) -> None:
    signature = inspect.signature(getattr(gsqc, function)).parameters
    names = {name for name, p in signature.items() if p.kind is not p.VAR_KEYWORD}
    if function in OPTIONS:
        names |= {name_of(o) for o in options_of(OPTIONS[function])}
    assert set(all_wrong(function)) == names


@pytest.mark.parametrize(
    ("command", "function"),
    [("compile", "compile"), ("train", "train"), ("eval", "evaluate"), ("generate", "generate")],
)
def test_functions_take_the_names_of_the_command_line(
    place: Path, command: str, function: str
) -> None:
    """A name is taken if a wrong value of it is refused by its own check."""
    (found,) = (group[command] for group in COMMANDS.values() if command in group)
    names = {o.name for o in as_command(command, found).options} - {*NOT_SETTINGS}  # type: ignore[attr-defined]
    for_targets = {option.name for _, option in target_options()}
    assert names - for_targets <= set(all_wrong(function)) | {"force"}
    for name in names & for_targets:
        with pytest.raises(OptionError, match=r"add --target|takes|is not"):
            gsqc.compile("absent", **{name: object()})


def test_a_name_that_no_function_takes_is_told() -> None:
    with pytest.raises(OptionError, match=r"gsqc\.train takes no learning_rat"):
        gsqc.train("b", "d", run="r", steps=1, learning_rat=1)
    with pytest.raises(OptionError) as error:
        gsqc.train("b", "d", run="r", steps=1, evalevery=1)
    assert error.value.hint == "did you mean eval_every?"


def test_a_traceback_shows_the_hint() -> None:
    kinds = [
        k for k in vars(gsqc.errors).values() if isinstance(k, type) and issubclass(k, GsqcError)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        text = "".join(traceback.format_exception(kind("what is wrong", "what to do")))
        assert "what is wrong" in text and "hint: what to do" in text


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.array])
def test_whole_numbers_of_numpy_are_whole_numbers(place: Path, kind: Callable[[int], Any]) -> None:
    plain = gsqc.train("small.gsqc", "notes.jsonl", run="a", steps=3, seed=2, progress=False)
    boxed = gsqc.train(
        *("small.gsqc", "notes.jsonl"),
        run="b",
        steps=kind(3),
        seed=kind(2),
        threads=kind(1),
        mask_prompt=np.bool_(True),
        lr=np.float32(1e-3),
        progress=np.bool_(False),
    )
    assert boxed.digest == plain.digest
    configs = [json.loads((place / run / "config.json").read_text()) for run in "ab"]
    assert [c.pop("paths") != c for c in configs] == [True, True]  # the runs are two
    assert configs[0] == configs[1]
