# SPDX-License-Identifier: Apache-2.0
"""gsqc replay: makes the adapter of a run of zo again from its log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.json_text import read_json
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption, ThreadsOption
from gsqc.errors import RunError
from gsqc.files.reading import read_file
from gsqc.option import Option
from gsqc.runtime.store import CONFIG, STATE, RunStore
from gsqc.targets.registry import best_target
from gsqc.targets.trust import require_trusted
from gsqc.training.replay import Replayed, replay, run_of
from gsqc.training.run_paths import find_path
from gsqc.values import is_path

_MOST_CONFIG_BYTES = 1 << 24


def replay_command(
    log: Annotated[
        Path,
        Option("Directory of a run, or the log.jsonl in it.", is_argument=True, example="runs/zo"),
    ],
    bundle: Annotated[
        Path | None,
        Option("The run's bundle. Without it, the one that its config.json names."),
    ] = None,
    run: Annotated[
        Path | None,
        Option("Write what was made again into this new run, to go on with or to export."),
    ] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Make the adapter of a run of --optimizer zo again from its log, without data.

    The digest of each step must be that in the log.
    """
    out = Output(json)
    directory, lines = run_of(log)
    opened = _open_bundle(directory, bundle)
    store = RunStore(directory, opened)
    found = replay(opened, store, lines, threads)
    if run is not None:
        _write(run, store, found)
    state_bytes = sum(tensor.nbytes for tensor in found.state.values())
    saved = ", and that of the saved state" if found.is_saved else ""
    out.say(
        f"{found.steps} steps from a log of {found.log_bytes:,} bytes, {found.numbers_bytes:,} of "
        f"which are needed: a state of {state_bytes:,} bytes"
    )
    out.say(f"digest {found.digest}, as in the log{saved}")
    record = {"steps": found.steps, "digest": found.digest, "log_bytes": found.log_bytes}
    record |= {"numbers_bytes": found.numbers_bytes, "state_bytes": state_bytes}
    out.emit(record | {"saved_state": found.is_saved, "run": None if run is None else str(run)})


def _open_bundle(directory: Path, named: Path | None) -> Bundle:
    """The bundle that the user or the run names. Raises RunError, BundleError, TargetError."""
    if named is not None:
        return Bundle.open(named)
    file = directory / CONFIG
    try:
        config = read_json(read_file(file, most_bytes=_MOST_CONFIG_BYTES, links=False))
    except (OSError, ValueError):
        config = None
    recorded = config.get("bundle_path") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not is_path(recorded):
        raise RunError(f"{file} names no bundle", "name it with --bundle")
    text = str(recorded)
    bundle = Bundle.open(find_path(text, config, directory).path or Path(text))
    require_trusted(bundle, best_target(bundle), str(file))
    return bundle


def _write(run: Path, source: RunStore, found: Replayed) -> None:
    """Write the state, the settings and the log as a new run. Raises RunError."""
    store = RunStore(run, source.bundle)
    if store.config or (run / STATE).exists():
        raise RunError(f"{run} holds a run already", "name a new directory with --run")
    store.begin(source.config)
    store.write_log(found.entries)
    store.save_state(found.state, found.steps)
