# SPDX-License-Identifier: Apache-2.0
"""open_run: makes a trainer that holds the run's lock from the options of a run.

A run that has steps goes on only with the settings that it began with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.image_file import images_digest
from gsqc.data import (
    DataOptions,
    Dataset,
    data_digest,
    held_out_digest,
    load_split,
    validation_share,
)
from gsqc.data.load import OnProgress
from gsqc.data.prompt_end import escaped
from gsqc.data.seen import ImageTable
from gsqc.data.token_cache import TOKENS, TokenCache
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import OptionError, RunError
from gsqc.limits import MAXIMUM_COUNT
from gsqc.runtime.requirements import image_space, require_clipping
from gsqc.runtime.session import Session
from gsqc.targets.registry import best_target
from gsqc.targets.trust import require_trusted
from gsqc.training.epochs import count_steps
from gsqc.training.fixed_settings import (
    FIXED_BY_SCHEDULE,
    FIXED_IF_GIVEN,
    FIXED_SETTINGS,
)
from gsqc.training.held_out import HeldOut
from gsqc.training.lock import RunLock
from gsqc.training.options import TrainOptions
from gsqc.training.run_settings import file_paths, made_with_now, settings_text
from gsqc.training.trainer import Trainer
from gsqc.values import is_whole


def run_config(options: TrainOptions, bundle: Bundle, reading: DataOptions) -> dict[str, Any]:
    """The settings that decide a run's bits, for config.json. Raises OptionError, DataError."""
    share = validation_share(reading.validation)
    config = {
        **options.settings(bundle.manifest.batch),
        "data": [str(path) for path in reading.data],
        "data_sha256": data_digest(reading.data),
        "mask_prompt": reading.mask_prompt,
        "packing": reading.packing,
        "prompt_end": reading.prompt_end,
        "validation": reading.validation,
        "held_out_share": None if share is None else str(share),
    }
    if (held_out := held_out_digest(reading)) is not None:
        config["validation_sha256"] = held_out
    if reading.images is not None:
        config["images_sha256"] = images_digest(reading.images)
    return config


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fixed settings that differ between two results of `run_config`.

    Numbers can be compared as texts, because `run_config` spells each in one way.
    """
    names = [name for name in FIXED_SETTINGS if name in old]
    names += [name for name in FIXED_IF_GIVEN if name in old and name in new]
    if new.get("schedule") != "constant":
        names += [name for name in FIXED_BY_SCHEDULE if name in old]
    return [n for n in names if type(old[n]) is not type(new.get(n)) or old[n] != new[n]]


def check_resume(session: Session, config: dict[str, Any]) -> None:
    """RunError if a run that has saved steps would go on with other settings."""
    assert session.store is not None
    old = session.store.config
    changed = changed_settings(old, config)
    if session.step_count and changed:
        now = ", ".join(f"{k} was {_shown(old[k])}, is {_shown(config.get(k))}" for k in changed)
        raise RunError(
            f"{session.store.path} has {session.step_count} steps with other settings: {now}",
            "give the settings that it began with, or start a new run with another --run",
        )


def _check_evaluations(trainer: Trainer) -> None:
    """RunError if new evaluations would take other sequences than those in the log.

    The log says how many tokens they took. gsqc-step writes a config.json without --eval-limit.
    """
    taken = [e["validation_tokens"] for e in trainer.entries if "validation_tokens" in e]
    now = sum(sequence.weighted_tokens for sequence in trainer.validation)
    if not taken or not trainer.validation or taken[-1] == now:
        return
    limit = trainer.store.config.get("eval_limit")
    known = f" {limit}" if is_whole(limit, 0, MAXIMUM_COUNT) else ""
    raise RunError(
        f"{trainer.store.path} has held-out losses of {taken[-1]} tokens, and new ones of {now} "
        "could not be compared with them",
        f"give the --eval-limit{known} that it began with, or start a new run with another --run",
    )


def _shown(value: Any) -> str:
    """A setting in one line."""
    return escaped(value) if isinstance(value, str) else str(value)


def _check_made_with(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name, what in (
        ("bundle", "bundle"),
        ("data_sha256", "data"),
        ("validation_sha256", "validation data"),
        ("images_sha256", "file of images"),
    ):
        if name in before and name in now and before[name] != now[name]:
            raise RunError(
                f"the {what} changed since the run that wrote the settings (its sha256 differs)",
                "bring it back, or name the new one on the command line",
            )


def _read(
    reading: DataOptions, bundle: Bundle, on_progress: OnProgress | None, cache: TokenCache
) -> tuple[Dataset, Dataset | None]:
    length = bundle.manifest.sequence_length
    tokenizer, images = Tokenizer(bundle), None
    if reading.images is not None:
        vocabulary, space = bundle.manifest.model.vocabulary, image_space(bundle.plan)
        images = ImageTable(reading.images, tokenizer, vocabulary, space)
    return load_split(
        reading, tokenizer, length, on_progress=on_progress, cache=cache, images=images
    )


def _counted(
    options: TrainOptions, dataset: Dataset, bundle: Bundle, config: dict[str, Any]
) -> TrainOptions:
    """The options with their steps counted. `config` gets these, and what decides no bits."""
    batch = bundle.manifest.batch
    counted = count_steps(options, len(dataset.sequences), options.sequences_per_step(batch))
    asked = {} if options.epochs is None else {"epochs": options.epochs}
    config |= counted.settings(batch) | {"eval_limit": options.eval_limit, **asked}
    return counted


def _check_held_out(reading: DataOptions, options: TrainOptions) -> None:
    needs_it = bool(options.patience or options.eval_every)
    if needs_it and reading.validation is None and held_out_digest(reading) is None:
        raise OptionError(
            "--patience and --eval-every need held-out data",
            "give it with --validation FILE or 10%",
        )


def _open_bundle(path: Path, named_by: str | None, options: TrainOptions) -> Bundle:
    """A bundle that this machine can run, and may run, and that takes the options."""
    bundle = Bundle.open(path)
    require_clipping(bundle.manifest.trained_by(), options.largest_norm)
    target = best_target(bundle)
    if named_by is not None:
        require_trusted(bundle, target, named_by)
    return bundle


def _before_save(lock: RunLock, bundle: Bundle, options: TrainOptions) -> None:
    """Raise RunTakenError or BundleChangedError rather than save what is not certain."""
    lock.require()
    bundle.require_unchanged(hashed=options.verify == "always")


def _trainer(
    session: Session,
    lock: RunLock,
    dataset: Dataset,
    held_out: Dataset | None,
    options: TrainOptions,
) -> Trainer:
    store = session.store
    assert store is not None
    store.before_save = partial(_before_save, lock, session.bundle, options)
    evaluated = HeldOut.of(held_out, options.eval_limit)
    entries = store.resume_log(session.step_count)
    trainer = Trainer(session, store, dataset, evaluated, options, entries=entries)
    _check_evaluations(trainer)
    return trainer


@contextmanager
def open_run(
    bundle: Path,
    reading: DataOptions,
    run: Path,
    options: TrainOptions,
    *,
    threads: int | None = None,
    settings: Mapping[str, Any] | None = None,
    made_with: Mapping[str, Any] | None = None,
    bundle_named_by: str | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Trainer]:
    """A trainer for the run, which no other process can open until it is closed.

    settings         goes into config.toml
    made_with        what a settings file records of its run. It must not have changed
    bundle_named_by  the file that named the bundle, if the user did not: its code must be trusted
    on_progress      takes the bytes of data that are read, and how many there are

    Raises OptionError, DataError, BundleError, RunError, TargetError.
    """
    _check_held_out(reading, options)
    opened = _open_bundle(bundle, bundle_named_by, options)
    config = run_config(options, opened, reading)
    _check_made_with(made_with or {}, made_with_now(opened, config))
    dataset, held_out = _read(reading, opened, on_progress, cache := TokenCache(run / TOKENS))
    counted = _counted(options, dataset, opened, config)
    config |= dataset.form(reading.prompt_end).setting() | file_paths(bundle, reading, run)
    lock = RunLock(run)
    try:
        session = Session(opened, run, threads=threads)
        check_resume(session, config)
        trainer = _trainer(session, lock, dataset, held_out, counted)
        if trainer.end is None:
            text = settings_text(run, settings or {}, reading, opened, config)
            trainer.store.begin(config, text)
            cache.save()
        yield trainer
    finally:
        lock.release()
