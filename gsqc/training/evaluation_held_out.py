# SPDX-License-Identifier: Apache-2.0
"""load_run_held_out: what a run held out, read as in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.data import DataOptions, data_digest, held_out_digest
from gsqc.data.load import load_held_out
from gsqc.data.prompt import PromptOptions
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import OptionError, RunError
from gsqc.runtime.store import RunStore
from gsqc.training.evaluation_options import EvaluationData, EvaluationOptions
from gsqc.training.run_paths import find_path


def load_run_held_out(
    options: EvaluationOptions, bundle: Bundle, store: RunStore | None
) -> EvaluationData:
    """What a run held out, read as in training."""
    config = _config_with_held_out(options, store)
    assert store is not None
    held_out, end = config.get("validation"), config.get("prompt_end", DEFAULT_END)
    if held_out is None or config.get("held_out_share") is not None:
        data, validation = options.data or _files(store, config, config.get("data")), held_out
        about = "a split of the run's data" if held_out is None else f"{held_out} of the run's data"
    else:
        data, about = (), str(held_out)
        validation = str(_one(options.data or _files(store, config, [held_out])))
    mask = config.get("mask_prompt") is not False
    reading = DataOptions(data, mask, validation=validation, prompt_end=end)
    _require_same(reading, config, store)
    found = load_held_out(reading, Tokenizer(bundle), bundle.manifest.sequence_length)
    assert found is not None, "the digest is that of what the run held out"
    about = f"{len(found.sequences)} sequences that the run held out: {about}"
    return EvaluationData(found.sequences, tuple(filter(None, [found.report()])), about)


def _one(paths: tuple[Path, ...]) -> Path:
    """The only path. Raises OptionError if there are several."""
    if len(paths) > 1:
        raise OptionError(f"the run held out one file, not {len(paths)}", "name one with --data")
    return paths[0]


def _config_with_held_out(options: EvaluationOptions, store: RunStore | None) -> dict[str, Any]:
    """The settings of a run that held something out. Raises OptionError, RunError."""
    if store is None:
        raise OptionError("only a run has held-out data", "name the run: --run DIR")
    if options.validation is not None or options.mask_prompt is not None:
        raise OptionError(
            "--held-out measures what the run held out, as it was read there",
            "leave --validation and --mask-prompt out, or leave --held-out out",
        )
    if options.asked != PromptOptions():
        raise OptionError(
            "--held-out reads records as the run did", "leave the form of a prompt out"
        )
    if store.config.get("validation") is None and "validation_sha256" not in store.config:
        raise RunError(
            f"{store.path} has no held-out data, because it was trained without --validation",
            "name files with --data",
        )
    return store.config


def _files(store: RunStore, config: dict[str, Any], named: Any) -> tuple[Path, ...]:
    """The files that a run's config.json names. RunError if one of them is not there."""
    texts = named if isinstance(named, list) else []
    found = [find_path(str(text), config, store.path) for text in texts]
    missing = [(t, f.looked) for t, f in zip(texts, found, strict=True) if f.path is None]
    if missing or not found:
        text, looked = missing[0] if missing else ("the run's data", ())
        raise RunError(
            f"{text} is not there (looked for {', '.join(map(str, looked))})",
            "name it with --data",
        )
    return tuple(f.path for f in found if f.path is not None)


def _require_same(reading: DataOptions, config: dict[str, Any], store: RunStore) -> None:
    """RunError unless the data is what the run was trained with."""
    is_share = config.get("held_out_share") is not None
    name = "data_sha256" if is_share else "validation_sha256"
    digest = data_digest(reading.data) if is_share else held_out_digest(reading)
    if digest != config.get(name):
        paths = ", ".join(map(str, reading.data or (reading.validation,)))
        raise RunError(
            f"{paths} is not the data that {store.path} was trained with (its sha256 differs)",
            "give that data with --data, or measure other data without --held-out",
        )
