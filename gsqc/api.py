# SPDX-License-Identifier: Apache-2.0
"""The commands as functions. `import gsqc` gives them to users."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.compiler.installed import needs_compiler
from gsqc.compiler.options import parse_compile_options
from gsqc.data import DataOptions
from gsqc.data.prompt import PromptOptions, choose_form
from gsqc.data.prompt_end import DEFAULT_END
from gsqc.data.tokenizer import Tokenizer
from gsqc.decimals import parse_fraction
from gsqc.errors import OptionError, system_errors
from gsqc.limits import MAXIMUM_NEW_TOKENS, MAXIMUM_SEED, MAXIMUM_TEMPERATURE, MAXIMUM_THREADS
from gsqc.option import check_options
from gsqc.runtime.answer import Question, answer_prompt
from gsqc.training.callbacks import Callbacks, End
from gsqc.training.options import LEARNING_RATE, TrainOptions
from gsqc.training.train_result import TrainResult
from gsqc.training.trainer import Trainer
from gsqc.values import as_path, require_whole, shown

Place = str | Path


def _none(_: Any) -> None: ...


def _threads(value: Any) -> int | None:
    return None if value is None else require_whole("threads", value, 1, MAXIMUM_THREADS)


def compile(
    model: Any,
    output: Place | None = None,
    *,
    target: str = "native",
    bits: str = "4-8-8",
    base: str | None = None,
    adapter: str = "lora:rank=16,alpha=32",
    sequence_length: int = 128,
    progress: Callable[[str], None] = _none,
    **options: Any,
) -> Path:
    """Compile a model into a bundle, and give the bundle's path.

    model     a name of gsqc's, a directory, a .gguf file, or a Hugging Face model object
    output    NAME.gsqc in the working directory if it is left out
    progress  called with a line of text at each stage
    options   further options of `gsqc compile`, such as batch, seed and force

    Raises OptionError, ModelError, UnsupportedOperatorError, TargetError, BundleError.
    """
    from gsqc.check.first_digests import take_first_digests
    from gsqc.models.catalogue import KNOWN_MODELS
    from gsqc.targets import resolve_target

    name = _name_of(model)
    place = Path(f"{Path(name).stem}.gsqc") if output is None else as_path("output", output)
    options |= {"bits": bits, "base": base, "adapter": adapter, "sequence_length": sequence_length}
    options |= {
        "target": resolve_target(str(target)),
        "known_models": KNOWN_MODELS,
        "output": place,
    }
    parsed = parse_compile_options(name, **options)
    with needs_compiler():
        from gsqc.compiler.compile import compile_model
    source = str(model) if isinstance(model, Path) else model
    with system_errors():
        compile_model(source, parsed, progress, partial(take_first_digests, say=progress))
    return place


def _name_of(model: Any) -> str:
    """The name or the path of a model. OptionError if it is none."""
    if isinstance(model, str | Path):
        return str(as_path("model", model))
    if hasattr(model, "state_dict"):
        return str(getattr(model, "name_or_path", "") or "model")
    raise OptionError(
        f"{shown(model)} is not a model", "give a name, a path or a Hugging Face model object"
    )


def train(
    bundle: Place,
    data: Place | Sequence[Place],
    *,
    run: Place,
    steps: int,
    lr: float | str = LEARNING_RATE,
    validation: Place | float | None = None,
    mask_prompt: bool = True,
    packing: bool = False,
    prompt_end: str = DEFAULT_END,
    threads: int | None = None,
    progress: bool = True,
    on_step: Callable[[dict[str, Any]], object] = _none,
    on_evaluate: Callable[[dict[str, Any]], object] = _none,
    on_save: Callable[[int], object] = _none,
    **options: Any,
) -> TrainResult:
    """Fine-tune a bundle's adapter on files, or go on with what `run` holds.

    validation   a file, or the share of the records that is held out
    on_step      called with a line of the log, as on_evaluate is. Both may raise StopTraining
    on_save      called with the number of the step
    options      further options of `gsqc train`

    Ctrl-C saves and returns. Raises OptionError, DataError, BundleError, RunError, TargetError.
    """
    from gsqc.training.open_run import open_run

    chosen = TrainOptions(steps=steps, lr=lr, **options)
    reading = _reading(data, mask_prompt, packing, validation, prompt_end)
    bundle, run, threads = as_path("bundle", bundle), as_path("run", run), _threads(threads)
    given = {"bundle": bundle, "run": run, **vars(reading), **vars(chosen), "threads": threads}
    with ExitStack() as opened:
        with system_errors():  # those of the callbacks are not ours to change
            run_of = open_run(bundle, reading, run, chosen, threads=threads, settings=given)
            trainer = opened.enter_context(run_of)
        trainer.callbacks = Callbacks(on_step=on_step, on_evaluate=on_evaluate, on_save=on_save)
        end = trainer.end or (_show(trainer) if progress else trainer.run())
        return TrainResult(run, str(end), trainer.step, trainer.session.digest(), trainer.entries)


def _show(trainer: Trainer) -> End:
    from gsqc.cli.display import show
    from gsqc.cli.output import Output
    from gsqc.training.notebook import in_notebook, show_in_notebook

    return show_in_notebook(trainer) if in_notebook() else show(trainer, Output(False))


def _reading(
    data: Place | Sequence[Place],
    mask_prompt: bool,
    packing: bool,
    validation: Place | float | None,
    prompt_end: str = DEFAULT_END,
) -> DataOptions:
    try:
        places = [data] if isinstance(data, str | Path) else list(data)
    except TypeError:
        places = []
    if not places:
        raise OptionError(f"data {shown(data)} names no file", "give a path or a list of paths")
    held_out = None if validation is None else str(validation)
    paths = tuple(as_path("data", place) for place in places)
    reading = DataOptions(paths, mask_prompt, packing, held_out, prompt_end)
    check_options(reading)
    return reading


def _open(bundle: Place, run: Place | None, best: bool, threads: int | None) -> Any:
    from gsqc.runtime.session import Session
    from gsqc.runtime.store import BEST, STATE, require_state

    place = None if run is None else as_path("run", run)
    count, path = _threads(threads), as_path("bundle", bundle)
    require_state(place, BEST if best else STATE)
    return Session(Bundle.open(path), place, threads=count, best=best)


@system_errors()
def evaluate(
    bundle: Place,
    data: Place | Sequence[Place] = (),
    *,
    run: Place | None = None,
    best: bool = False,
    mask_prompt: bool | None = None,
    validation: float | str | None = None,
    held_out: bool = False,
    threads: int | None = None,
    **form: Any,
) -> Any:
    """Loss, perplexity and tokens of a bundle on files: an EvaluationResult.

    run, best    the run whose adapter, or best one, is used. Without it, the bundle's initial one
    mask_prompt  whether prompts have no loss. Without it as in the run, or else they have none
    validation   measure only the share that training with this share holds out
    held_out     measure what the run held out, and nothing else
    form         form, system and prompt_end of bare prompts, as in `generate`

    What was cut is told in a warning. Raises OptionError, DataError, BundleError, RunError,
    TargetError.
    """
    from gsqc.training.evaluation_data import EvaluationOptions, load_evaluation

    files = () if held_out and not data else _reading(data, True, False, None).data
    share = None if validation is None else str(validation)
    options = EvaluationOptions(files, mask_prompt, share, held_out, PromptOptions(**form))
    session = _open(bundle, run, best, threads)
    found = load_evaluation(options, session.bundle, session.store)
    _warn(found.notes)
    return session.evaluate(found.sequences)


def _warn(notes: Iterable[str]) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=4)


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
    heat = parse_fraction(shown(temperature), "temperature", MAXIMUM_TEMPERATURE)
    require_whole("max_tokens", max_tokens, 1, MAXIMUM_NEW_TOKENS)
    require_whole("seed", seed, 0, MAXIMUM_SEED)
    asked = PromptOptions(**form)
    session = _open(bundle, run, best, threads)
    recorded = None if session.store is None else session.store.data_form
    question = Question(prompt, choose_form(asked, recorded), max_tokens, heat, seed, strict)
    answer = answer_prompt(session, Tokenizer(session.bundle), question)
    _warn(answer.notes)
    return answer.text
