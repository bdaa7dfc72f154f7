# SPDX-License-Identifier: Apache-2.0
"""The commands as functions. `import gsqc` gives them to users.

`gsqc.classify` is in gsqc.runtime.classify.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gsqc.adapters import default_adapter
from gsqc.cli.display import show
from gsqc.cli.output import Output
from gsqc.cli.reading_bar import reading_bar
from gsqc.compiler.installed import needs_compiler
from gsqc.compiler.options import CompileOptions
from gsqc.compiler.parse_options import parse_compile_options
from gsqc.data.in_memory import write_records
from gsqc.data.prompt import PromptOptions, choose_form
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import system_errors
from gsqc.option import options_of
from gsqc.runtime.answer import Question, answer_prompt
from gsqc.runtime.generation import require_drawing
from gsqc.runtime.open_session import open_session
from gsqc.training.callbacks import checked_callbacks
from gsqc.training.evaluation_data import load_evaluation
from gsqc.training.evaluation_options import EvaluationOptions
from gsqc.training.notebook import in_notebook, show_in_notebook
from gsqc.training.options import LEARNING_RATE, TrainOptions
from gsqc.training.settings_file import require_known
from gsqc.training.sources import open_on, reading_options
from gsqc.training.train_result import TrainResult
from gsqc.training.trainer import Trainer
from gsqc.values import as_path, model_name, require_function, require_truth

Place = str | Path
_ADAPTER = str(default_adapter())
Data = Any
"""A path, several, or records in memory: a list of dicts, or a table of pandas or datasets."""


def _none(_: Any) -> None: ...


@system_errors()
def compile(
    model: Any,
    output: Place | None = None,
    *,
    target: str = "native",
    bits: str = "4-8-8",
    base: str | None = None,
    adapter: str | Sequence[str] = _ADAPTER,
    seq: int = 128,
    download: bool = False,
    progress: Callable[[str], None] = _none,
    **options: Any,
) -> Path:
    """Compile a model into a bundle, and give the bundle's path.

    model     a name of gsqc's or of the hub's, a directory, a .gguf, .onnx or .pt2 file, or a model
    download  fetch ORG/NAME from the Hugging Face hub, if it is not in the cache here
    adapter   a text, or a list of texts on linears of their own (docs/adapters.md)
    output    NAME.gsqc in the working directory if it is left out
    progress  called with a line of text at each stage
    options   further ones, such as batch and force

    Raises OptionError, ModelError, UnsupportedOperatorError, TargetError, BundleError.
    """
    from gsqc.check.first_digests import take_first_digests
    from gsqc.models.hub import fetch_model, is_here

    require_function("progress", progress)
    name = model_name(model)
    place = as_path("output", output or f"{Path(name).stem}.gsqc")
    options = {"sequence_length": seq, **options, "bits": bits, "base": base, "adapter": adapter}
    parsed = _compile_options(name, {**options, "target": target, "output": place})
    if require_truth("download", download) and isinstance(model, str) and not is_here(name):
        fetch_model(name)
    with needs_compiler():
        from gsqc.compiler.compile import compile_model
    source = str(model) if isinstance(model, Path) else model
    digests = partial(take_first_digests, say=progress)
    compile_model(source, parsed, progress, digests, partial(warnings.warn, stacklevel=5))
    return place


def _compile_options(model: str, given: dict[str, Any]) -> CompileOptions:
    """The options of a compilation, of which some are a target's. Raises OptionError."""
    from gsqc.models.catalogue import KNOWN_MODELS
    from gsqc.targets.registry import resolve_target, target_options

    of_targets = {option.name for _, option in target_options()}
    require_known("compile", given, {o.field for o in options_of(CompileOptions)} | of_targets)
    for_target = {name: given.pop(name) for name in of_targets & set(given)}
    given |= {"target": resolve_target(str(given["target"])), "target_options": for_target}
    return parse_compile_options(model, known_models=KNOWN_MODELS, **given)


def train(
    bundle: Place,
    data: Data,
    *,
    run: Place,
    steps: int | None = None,
    lr: float | str = LEARNING_RATE,
    validation: Data | float | None = None,
    mask_prompt: bool = True,
    packing: bool = False,
    prompt_end: str = DEFAULT_END,
    strict: bool = False,
    images: Place | None = None,
    threads: int | None = None,
    progress: bool = True,
    on_step: Callable[[dict[str, Any]], object] = _none,
    on_evaluate: Callable[[dict[str, Any]], object] = _none,
    on_save: Callable[[int], object] = _none,
    on_note: Callable[[dict[str, Any]], object] = _none,
    **options: Any,
) -> TrainResult:
    """Fine-tune a bundle's adapter on data, or go on with what `run` holds (docs/training.md).

    data, validation      files, or records, which the run then keeps. Or validation is a share.
    on_step, on_evaluate  get a line of the log, and may raise StopTraining. on_note gets the rest
    options               further ones of `gsqc train`, such as epochs in place of steps

    Ctrl-C saves and returns. Raises OptionError, DataError, BundleError, RunError, TargetError.
    """
    require_known("train", options, (option.field for option in options_of(TrainOptions)))
    chosen = TrainOptions(**{"steps": steps, "lr": lr, **options})
    is_shown = require_truth("progress", progress)
    calls = checked_callbacks(on_step, on_evaluate, on_save, on_note)
    how = {"mask_prompt": mask_prompt, "packing": packing, "prompt_end": prompt_end}
    how |= {"validation": validation, "strict": strict, "images": images}
    with ExitStack() as opened:
        bar = opened.enter_context(reading_bar(Output(not is_shown))).update
        trainer = open_on(opened, bundle, data, run, chosen, threads, on_progress=bar, **how)
        trainer.callbacks = calls
        return _run(trainer, is_shown)


def _run(trainer: Trainer, is_shown: bool) -> TrainResult:
    """Run to the end, and show it if it is to be shown."""
    show_it = show_in_notebook if in_notebook() else partial(show, out=Output(False))
    end = show_it(trainer) if is_shown else trainer.run()
    told, digest = tuple(note.text for note in trainer.notes), trainer.session.digest()
    return TrainResult(trainer.store.path, str(end), trainer.step, digest, trainer.entries, told)


@system_errors()
def evaluate(
    bundle: Place,
    data: Data = (),
    *,
    run: Place | None = None,
    best: bool = False,
    mask_prompt: bool | None = None,
    validation: float | str | None = None,
    held_out: bool = False,
    perplexity: Place | None = None,
    limit: int | None = None,
    threads: int | None = None,
    **form: Any,
) -> Any:
    """Loss, perplexity and tokens of a bundle on data: an EvaluationResult.

    data         files or records, as in `train`
    run, best    the run whose adapter, or best one, is used. Without it, the bundle's initial one
    mask_prompt  whether prompts have no loss. Without it as in the run, or else they have none
    validation   measure only the share that training with this share holds out
    held_out     measure what the run held out, and nothing else
    perplexity   a file of text: measure it in place of data, and its bits per byte
    limit        takes only the first sequences
    form         form, system and prompt_end of bare prompts, as in `generate`

    Warns of what was cut. Raises OptionError, DataError, BundleError, RunError, TargetError.
    """
    require_known("evaluate", form, (option.field for option in options_of(PromptOptions)))
    share = None if validation is None else str(validation)
    text = None if perplexity is None else as_path("perplexity", perplexity)
    is_alone = (held_out or text) and isinstance(data, tuple) and not data
    with TemporaryDirectory(prefix="gsqc-") as folder:
        files = () if is_alone else _files(data, folder)
        chosen = (files, mask_prompt, share, held_out, text, limit)
        options = EvaluationOptions(*chosen, PromptOptions(**form))
        session = open_session(bundle, run, best, threads)
        found = load_evaluation(options, session.bundle, session.store)
    for note in found.notes:
        warnings.warn(note, stacklevel=3)
    return found.measure(session)


def _files(data: Data, folder: str) -> tuple[Path, ...]:
    """The files of data. Records in memory are written to one in `folder`."""
    keep = partial(write_records, Path(folder))
    return reading_options(keep, data, None).data


@system_errors()
def generate(
    bundle: Place,
    prompt: str | Sequence[int],
    *,
    run: Place | None = None,
    best: bool = False,
    max_tokens: int = 64,
    strict: bool = False,
    temperature: float | str = 0,
    seed: int = 0,
    threads: int | None = None,
    **form: Any,
) -> str:
    """The text that a bundle's model writes after a prompt.

    prompt       a text, or token ids, which have no form
    run, best    as in `evaluate`
    strict       refuse a prompt that is longer than a sequence. Else its beginning is dropped
    temperature  0 takes the likeliest token at each place
    form         form, chat, system, input and prompt_end, as in `gsqc generate`

    What was dropped is told in a warning. Raises OptionError, DataError, BundleError, RunError,
    TargetError.
    """
    drawing = require_drawing(max_tokens, temperature, seed)
    is_strict = require_truth("strict", strict)
    require_known("generate", form, (option.field for option in options_of(PromptOptions)))
    asked = PromptOptions(**form).of_prompt(prompt)
    session = open_session(bundle, run, best, threads)
    recorded = None if session.store is None else session.store.data_form
    question = Question(prompt, choose_form(asked, recorded), drawing, is_strict)
    answer = answer_prompt(session, Tokenizer(session.bundle), question)
    for note in answer.notes:
        warnings.warn(note, stacklevel=3)
    return answer.text
