# SPDX-License-Identifier: Apache-2.0
"""open_run: from the options of a run to a trainer that holds its lock; a run goes on with its own settings only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from gsqc import __version__
from gsqc.bundle import Bundle
from gsqc.errors import DataError, OptionError, RunError
from gsqc.runtime.data import Dataset, load_data
from gsqc.runtime.lock import RunLock
from gsqc.runtime.session import Session
from gsqc.runtime.settings_file import RECORDED, write_table
from gsqc.runtime.store import SETTINGS
from gsqc.runtime.tokenizer import Tokenizer
from gsqc.runtime.train_options import TrainOptions
from gsqc.runtime.trainer import Trainer

FIXED = ("data_sha256", "seed", "lr", "warmup", "schedule", "min_lr", "weight_decay", "clip", "sequences_per_step")
"""What a resumed run must share with its beginning, to be the same run; `steps` too if the rate depends on it."""


def file_sha256(path: Path) -> str:
    """Of a data file's content. Raises DataError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check the path given with --data") from None


def run_config(options: TrainOptions, bundle: Bundle, data: Path) -> dict[str, Any]:
    """What a run directory remembers of how its bits came about."""
    settings = options.settings(bundle.manifest["batch"])
    return {**settings, "data": str(data), "data_sha256": file_sha256(data)}


def _is_same(old: Any, new: Any) -> bool:
    try:
        return bool(Decimal(str(old)) == Decimal(str(new)))  # 1e-3 is 0.001
    except InvalidOperation:
        return bool(old == new)


def check_resume(session: Session, config: dict[str, Any]) -> None:
    """RunError if a run with saved steps would go on with other settings."""
    assert session.store is not None
    old = session.store.config
    fixed = FIXED if config["schedule"] == "constant" else (*FIXED, "steps")
    changed = [k for k in fixed if k in old and not _is_same(old[k], config[k])]
    if session.step_count and changed:
        now = ", ".join(f"{k} was {old[k]}, is {config[k]}" for k in changed)
        raise RunError(
            f"{session.store.path} has {session.step_count} steps with other settings: {now}",
            "give the settings that it began with, or start a new run with another --run",
        )


def _check_made_with(before: Mapping[str, Any], now: dict[str, str]) -> None:
    for name, what in (("bundle", "bundle"), ("data_sha256", "data")):
        if name in before and before[name] != now[name]:
            raise RunError(
                f"the {what} is not the one that the settings' run was made with (its sha256 differs)",
                f"bring it back, or name another {what} on the command line",
            )


def _settings_text(run: Path, settings: Mapping[str, Any], now: dict[str, str]) -> str:
    head = (
        f"# Written by gsqc {__version__}.\n"
        f"# Go on with this run:    gsqc train --resume {run}\n"
        f"# Run the same once more: gsqc train --config {run / SETTINGS} --run ANOTHER\n\n"
    )
    return head + write_table("train", settings) + "\n" + write_table(RECORDED, now)


@contextmanager
def open_run(
    bundle: Path,
    data: Path,
    run: Path,
    options: TrainOptions,
    *,
    validation: Path | None = None,
    threads: int | None = None,
    settings: Mapping[str, Any] | None = None,
    made_with: Mapping[str, Any] | None = None,
    target: str | None = None,
) -> Iterator[Trainer]:
    """A trainer for the run, which no other process can open until it is closed.

    `settings` is what config.toml gets, `made_with` what it was written with before (bundle, data_sha256), which must
    not have changed. Raises OptionError, DataError, BundleError, RunError, TargetError.
    """
    if validation is None and (options.patience or options.eval_every):
        raise OptionError("--patience and --eval-every need held-out data", "give it with --validation FILE")
    opened = Bundle.open(bundle, check_machine=target != "numpy")
    config = run_config(options, opened, data)
    now = {"bundle": opened.id, "data_sha256": config["data_sha256"]}
    _check_made_with(made_with or {}, now)
    length, tokenizer = opened.manifest["sequence_length"], Tokenizer(opened)
    dataset = load_data(data, tokenizer, length)
    held_out = load_data(validation, tokenizer, length) if validation is not None else Dataset()
    lock = RunLock(run)
    try:
        session = Session(opened, run, threads=threads, target=target)
        check_resume(session, config)
        assert session.store is not None
        trainer = Trainer(session, session.store, dataset, held_out.sequences, options)
        trainer.entries = session.store.resume_log(session.step_count)
        if trainer.end is None:
            session.store.begin(config, _settings_text(run, settings or {}, now))
        yield trainer
    finally:
        lock.release()
