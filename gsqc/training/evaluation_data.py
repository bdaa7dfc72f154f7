# SPDX-License-Identifier: Apache-2.0
"""What `gsqc eval` measures: files, a share of them, what a run held out, or a text.

Records are read as the run's data was: with its end of a prompt, and bare prompts in its form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.data import DataOptions, Dataset, load_split, validation_share
from gsqc.data.examples import Example
from gsqc.data.files import held_out_files
from gsqc.data.form import DataForm
from gsqc.data.load import load_held_out
from gsqc.data.prompt import OVERRIDES, PromptForm, PromptOptions, choose_form
from gsqc.data.sequences import listed
from gsqc.data.text_windows import read_text_windows
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import OptionError
from gsqc.runtime.store import RunStore
from gsqc.training.evaluation_held_out import load_run_held_out
from gsqc.training.evaluation_options import EvaluationData, EvaluationOptions


def load_evaluation(
    options: EvaluationOptions, bundle: Bundle, store: RunStore | None
) -> EvaluationData:
    """The sequences to measure. `store` is that of the run, or None.

    Raises OptionError, RunError, DataError.
    """
    if bundle.manifest.model.labels is not None:
        _check_of_classifier(options)
    if options.perplexity is not None:
        return _load_text(options, options.perplexity, bundle)
    found = _load_records(options, bundle, store)
    return replace(found, sequences=found.sequences[: options.limit])


def _check_of_classifier(options: EvaluationOptions) -> None:
    """OptionError for what has no meaning for texts with labels."""
    if options.perplexity is not None:
        raise OptionError(
            "a classifier has no perplexity of a text", "measure texts with labels: --data FILE"
        )
    if options.asked != PromptOptions() or options.mask_prompt is not None:
        raise OptionError(
            "a classifier's texts are no prompts, so they have no form",
            "leave the form of a prompt and --mask-prompt out",
        )


def _load_text(options: EvaluationOptions, path: Path, bundle: Bundle) -> EvaluationData:
    """The windows of a text. Nothing that is asked of records may be asked of it."""
    if options != EvaluationOptions(perplexity=path, limit=options.limit):
        raise OptionError(
            "--perplexity measures a text as it is, without records and prompts",
            "leave out what says which records are measured, and how",
        )
    length = bundle.manifest.sequence_length
    windows = read_text_windows(path, Tokenizer(bundle), length, options.limit)
    return EvaluationData(windows.sequences, (), text_bytes=windows.text_bytes)


def _load_records(
    options: EvaluationOptions, bundle: Bundle, store: RunStore | None
) -> EvaluationData:
    if options.held_out:
        return load_run_held_out(options, bundle, store)
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
            "there is nothing to measure",
            "name files with --data or --perplexity, or add --held-out to --run",
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
