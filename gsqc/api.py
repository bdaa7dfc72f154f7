# SPDX-License-Identifier: Apache-2.0
"""The commands as functions. `import gsqc` gives them to users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.compiler.installed import needs_compiler
from gsqc.compiler.options import parse_compile_options
from gsqc.data import DataOptions, chat_prompt, load_split
from gsqc.data.tokenizer import Tokenizer
from gsqc.training.callbacks import End
from gsqc.training.options import LEARNING_RATE, TrainOptions
from gsqc.training.train_result import TrainResult
from gsqc.training.trainer import Trainer

Place = str | Path


def _none(_: Any) -> None: ...


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

    name = model if isinstance(model, str | Path) else getattr(model, "name_or_path", "") or "model"
    place = Path(output) if output is not None else Path(f"{Path(name).stem}.gsqc")
    options |= {"bits": bits, "base": base, "adapter": adapter, "sequence_length": sequence_length}
    options |= {"target": resolve_target(target), "known_models": KNOWN_MODELS, "output": place}
    parsed = parse_compile_options(str(name), **options)
    with needs_compiler():
        from gsqc.compiler.compile import compile_model
    source = str(model) if isinstance(model, Path) else model
    compile_model(source, parsed, progress, partial(take_first_digests, say=progress))
    return place


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
    threads: int | None = None,
    progress: bool = True,
    on_step: Callable[[dict[str, Any]], object] = _none,
    on_evaluate: Callable[[dict[str, Any]], object] = _none,
    on_save: Callable[[int], object] = _none,
    **options: Any,
) -> TrainResult:
    """Fine-tune a bundle's adapter on files, or go on with what `run` holds.

    validation   a file, or the share of the records that is held out
    on_step      called with a line of the log (docs/runs.md), as on_evaluate is. Both may raise
                 StopTraining.
    on_save      called with the number of the step
    options      further options of `gsqc train`, such as clip and patience

    Ctrl-C saves and returns. Raises OptionError, DataError, BundleError, RunError, TargetError.
    """
    from gsqc.training.callbacks import Callbacks
    from gsqc.training.open_run import open_run

    chosen = TrainOptions(steps=steps, lr=lr, **options)
    reading = _reading(data, mask_prompt, packing, validation)
    bundle, run = Path(bundle), Path(run)
    settings = {"bundle": bundle, "run": run, **vars(reading), **vars(chosen), "threads": threads}
    with open_run(bundle, reading, run, chosen, threads=threads, settings=settings) as trainer:
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
) -> DataOptions:
    places = [data] if isinstance(data, str | Path) else data
    return DataOptions(
        tuple(Path(p) for p in places),
        mask_prompt,
        packing,
        None if validation is None else str(validation),
    )


def _open(bundle: Place, run: Place | None, best: bool, threads: int | None) -> Any:
    from gsqc.runtime.session import Session
    from gsqc.runtime.store import BEST, STATE, require_state

    place = None if run is None else Path(run)
    require_state(place, BEST if best else STATE)
    return Session(Bundle.open(Path(bundle)), place, threads=threads, best=best)


def evaluate(
    bundle: Place,
    data: Place | Sequence[Place],
    *,
    run: Place | None = None,
    best: bool = False,
    mask_prompt: bool = True,
    threads: int | None = None,
) -> Any:
    """Loss, perplexity and tokens of a bundle on files: an EvaluationResult.

    run   the run whose adapter is used. Without it, the bundle's initial one.
    best  whether the run's best state is used in place of its last

    Raises OptionError, DataError, BundleError, RunError, TargetError.
    """
    session = _open(bundle, run, best, threads)
    reading = _reading(data, mask_prompt, False, None)
    dataset, _ = load_split(reading, Tokenizer(session.bundle), session.sequence_length)
    return session.evaluate(dataset.sequences)


def generate(
    bundle: Place,
    prompt: str | Sequence[int],
    *,
    run: Place | None = None,
    best: bool = False,
    max_tokens: int = 64,
    chat: bool = False,
    system: str | None = None,
    temperature: float | str = 0,
    seed: int = 0,
    threads: int | None = None,
) -> str:
    """The text that a bundle's model writes after a prompt.

    prompt       a text, or token ids
    run, best    as in `evaluate`
    chat         whether the prompt, and `system` if given, are put into the model's chat template
    temperature  0 takes the likeliest token at each place

    Raises OptionError, DataError, BundleError, RunError, TargetError.
    """
    session = _open(bundle, run, best, threads)
    tokenizer = Tokenizer(session.bundle)
    if isinstance(prompt, str):
        prompt = chat_prompt(tokenizer, prompt, system) if chat else tokenizer.encode_prompt(prompt)
    return tokenizer.decode(
        list(session.generate(prompt, max_tokens, Fraction(str(temperature)), seed))
    )
