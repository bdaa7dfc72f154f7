# SPDX-License-Identifier: Apache-2.0
"""open_run: makes a trainer that holds the run's lock from the options of a run.

A run that has steps goes on only with the settings that it began with.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.data import DataOptions, data_digest, load_split, validation_share
from gsqc.data.prompt_end import escaped
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import OptionError, RunError
from gsqc.runtime.session import Session
from gsqc.runtime.store import SETTINGS
from gsqc.targets.registry import best_target
from gsqc.targets.trust import require_trusted
from gsqc.training.lock import RunLock
from gsqc.training.options import (
    ADDED_SETTINGS,
    FIXED_BY_SCHEDULE,
    FIXED_IF_GIVEN,
    FIXED_SETTINGS,
    TrainOptions,
)
from gsqc.training.run_paths import PATHS, record_paths
from gsqc.training.settings_file import RECORDED, write_table
from gsqc.training.trainer import Trainer
from gsqc.version import __version__


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
    if reading.validation is not None and share is None:
        config["validation_sha256"] = data_digest([Path(reading.validation)])
    return config


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fixed settings that differ between two results of `run_config`.

    Numbers can be compared as texts, because `run_config` spells each in one way.
    """
    old = {**ADDED_SETTINGS, **old}
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
        before = {**ADDED_SETTINGS, **old}
        now = ", ".join(f"{k} was {_shown(before[k])}, is {_shown(config[k])}" for k in changed)
        raise RunError(
            f"{session.store.path} has {session.step_count} steps with other settings: {now}",
            "give the settings that it began with, or start a new run with another --run",
        )


def _shown(value: Any) -> str:
    """A setting in one line."""
    return escaped(value) if isinstance(value, str) else str(value)


def _check_made_with(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name, what in (
        ("bundle", "bundle"),
        ("data_sha256", "data"),
        ("validation_sha256", "validation data"),
    ):
        if name in before and name in now and before[name] != now[name]:
            raise RunError(
                f"the {what} changed since the run that wrote the settings (its sha256 differs)",
                "bring it back, or name the new one on the command line",
            )


def file_paths(bundle: Path, reading: DataOptions, run: Path | None) -> dict[str, Any]:
    """Where the files of a run are. A share of held-out data is no file. Raises OptionError."""
    is_file = reading.validation is not None and validation_share(reading.validation) is None
    held_out = [Path(str(reading.validation))] if is_file else []
    runs = [] if run is None else [run]
    return record_paths(run, [bundle, *runs, *reading.data, *held_out])


def _made_with(bundle: Bundle, config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.toml records beside the settings: the bundle, hashes of data, and paths."""
    kept = {k: v for k, v in config.items() if k.endswith("_sha256") or k == PATHS}
    return {"bundle": bundle.meaning, **kept}


def _settings_text(
    run: Path,
    settings: Mapping[str, Any],
    reading: DataOptions,
    bundle: Bundle,
    config: Mapping[str, Any],
) -> str:
    place, file = (shlex.quote(str(path)).replace("\n", " ") for path in (run, run / SETTINGS))
    head = (
        f"# Written by gsqc {__version__}.\n"
        f"# Go on with this run:    gsqc train --resume {place}\n"
        f"# Run the same once more: gsqc train --config {file} --run ANOTHER\n\n"
    )
    if settings:  # as the option spells it
        settings = {**settings, "prompt_end": escaped(reading.prompt_end)}
    recorded = write_table(RECORDED, _made_with(bundle, config))
    return f"{head}{write_table('train', settings)}\n{recorded}"


def _check_held_out(reading: DataOptions, options: TrainOptions) -> None:
    if reading.validation is None and (options.patience or options.eval_every):
        raise OptionError(
            "--patience and --eval-every need held-out data",
            "give it with --validation FILE or 10%",
        )


def _open_bundle(path: Path, named_by: str | None) -> Bundle:
    """A bundle that this machine can run, and may run."""
    bundle = Bundle.open(path)
    target = best_target(bundle)
    if named_by is not None:
        require_trusted(bundle, target, named_by)
    return bundle


def _before_save(lock: RunLock, bundle: Bundle, options: TrainOptions) -> None:
    """Raise RunTakenError or BundleChangedError rather than save what is not certain."""
    lock.require()
    bundle.require_unchanged(hashed=options.verify == "always")


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
) -> Iterator[Trainer]:
    """A trainer for the run, which no other process can open until it is closed.

    `settings` goes into config.toml. `made_with` is what a settings file records of the run that
    wrote it (bundle, data_sha256), which must not have changed. `bundle_named_by` is the file that
    named the bundle, if the user did not: then its code must be trusted.

    Raises OptionError, DataError, BundleError, RunError, TargetError.
    """
    _check_held_out(reading, options)
    opened = _open_bundle(bundle, bundle_named_by)
    config = run_config(options, opened, reading)
    _check_made_with(made_with or {}, _made_with(opened, config))
    dataset, held_out = load_split(reading, Tokenizer(opened), opened.manifest.sequence_length)
    config |= dataset.form(reading.prompt_end).setting() | file_paths(bundle, reading, run)
    lock = RunLock(run)
    try:
        session = Session(opened, run, threads=threads)
        check_resume(session, config)
        assert session.store is not None
        session.store.before_save = partial(_before_save, lock, opened, options)
        validation = held_out.sequences if held_out else []
        trainer = Trainer(session, session.store, dataset, validation, options)
        trainer.entries = session.store.resume_log(session.step_count)
        if trainer.end is None:
            text = _settings_text(run, settings or {}, reading, opened, config)
            session.store.begin(config, text)
        yield trainer
    finally:
        lock.release()
