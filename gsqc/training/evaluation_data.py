# SPDX-License-Identifier: Apache-2.0
"""What `gsqc eval` measures: files, a share of them, or what a run held out.

Records are read as the run's data was: with its end of a prompt, and bare prompts in its form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.data import (
    DataOptions,
    Dataset,
    TokenSequence,
    data_digest,
    held_out_digest,
    load_split,
    validation_share,
)
from gsqc.data.examples import Example
from gsqc.data.files import held_out_files
from gsqc.data.form import DataForm
from gsqc.data.load import load_held_out
from gsqc.data.options import GROUP
from gsqc.data.prompt import OVERRIDES, PromptForm, PromptOptions, choose_form
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.data.sequences import listed
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import OptionError, RunError
from gsqc.option import check_options, option
from gsqc.runtime.store import RunStore
from gsqc.training.run_paths import find_path


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, and how it is read. `asked` is the form of bare prompts.

    Raises OptionError.
    """

    data: tuple[Path, ...] = option(
        (),
        help="Files or directories, as for gsqc train. Not needed with --held-out.",
        group=GROUP,
    )
    mask_prompt: bool | None = option(
        None,
        help="Only completions and the assistant's turns have a loss. Without it, as in the run.",
        opposite="--no-mask-prompt",
        group=GROUP,
    )
    validation: str | None = option(
        None,
        help="Measure only the share that training with it holds out: 0.1 or 10%.",
        group=GROUP,
    )
    held_out: bool = option(False, help="Measure only what the run held out.", group=GROUP)
    asked: PromptOptions = field(default_factory=PromptOptions)

    def __post_init__(self) -> None:
        """Check all values."""
        check_options(self)


@dataclass(frozen=True)
class EvaluationData:
    """What is measured.

    notes  how it was read, and what was cut
    about  what it is, if the run says it
    """

    sequences: Sequence[TokenSequence]
    notes: tuple[str, ...]
    about: str = ""


def load_evaluation(
    options: EvaluationOptions, bundle: Bundle, store: RunStore | None
) -> EvaluationData:
    """The sequences to measure. `store` is that of the run, or None.

    Raises OptionError, RunError, DataError.
    """
    if options.held_out:
        return _load_held_out(options, bundle, store)
    _check(options)
    recorded = None if store is None else store.data_form
    config = {} if store is None else store.config
    form = choose_form(options.asked, recorded)
    as_in_run = config.get("mask_prompt") is not False
    mask = as_in_run if options.mask_prompt is None else options.mask_prompt
    reading = DataOptions(
        options.data, mask, validation=options.validation, prompt_end=form.prompt_end
    )
    converter = _Converter(form)
    dataset, chosen, about = _chosen(reading, bundle, converter)
    notes = [dataset.report(), _other_form(dataset, recorded)]
    if converter.count:
        why = "" if options.asked.wanted else f", as the run's data; {OVERRIDES}"
        notes.append(f"{converter.count} bare prompts are taken {form.describe()}{why}")
    if mask is False and options.mask_prompt is None:
        notes.append("prompts count too, as in the run; --mask-prompt overrides")
    return EvaluationData(chosen.sequences, tuple(filter(None, notes)), about)


def _chosen(
    reading: DataOptions, bundle: Bundle, converter: _Converter
) -> tuple[Dataset, Dataset, str]:
    """What is read, what of it is measured, and what that is if it is not all."""
    tokenizer, length = Tokenizer(bundle), bundle.manifest.sequence_length
    if reading.validation is None and (files := held_out_files(reading)):
        split = load_held_out(reading, tokenizer, length, converter.convert)
        assert split is not None
        names = listed([file.name for file in files])
        return split, split, f"{names}: measured alone, for the name says that it is held out"
    dataset, held_out = load_split(reading, tokenizer, length, convert=converter.convert)
    return dataset, dataset if held_out is None else held_out, ""


def _check(options: EvaluationOptions) -> None:
    if not options.data:
        raise OptionError(
            "there is nothing to measure", "name files with --data, or add --held-out to --run"
        )
    if options.validation is not None and validation_share(options.validation) is None:
        raise OptionError(
            f"--validation {options.validation} is a file, and eval takes a share",
            "give the file with --data",
        )


@dataclass
class _Converter:
    """Puts bare prompts into a form, and counts them."""

    form: PromptForm
    count: int = 0

    def convert(self, example: Example) -> Example:
        made = self.form.convert(example)
        self.count += made is not example
        return made


def _other_form(dataset: Dataset, recorded: DataForm | None) -> str | None:
    """That records have a form in which the run saw none. None if it saw all."""
    if recorded is None:
        return None
    new = [name for name in dataset.shapes if name not in recorded.records]
    seen = ", ".join(recorded.records)
    return f"the data has the form {', '.join(new)}, and the run's data had {seen}" if new else None


def _load_held_out(
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
