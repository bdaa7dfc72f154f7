# SPDX-License-Identifier: Apache-2.0
"""Where the files are that a run's settings name.

A run records each path as it was given, as seen from the run's directory, and absolute. So it is
found from another working directory, and after the run was moved with or without its data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsqc.data.content import STANDARD_INPUT
from gsqc.runtime.store import CONFIG
from gsqc.values import is_path

PATHS = "paths"
"""The name in config.json, and in the table of config.toml that says what a run was made with."""


def record_paths(run: Path | None, paths: Iterable[Path]) -> dict[str, list[list[str]]]:
    """What a run records of its paths. Each is [as given, seen from the run, absolute].

    Standard input is no file, and nothing is recorded of it.
    """
    found = []
    for path in paths:
        if str(path) == STANDARD_INPUT:
            continue
        absolute = _absolute(path)
        seen = [] if run is None else [os.path.relpath(absolute, os.path.realpath(run))]
        found.append([str(path), *seen, absolute])
    return {PATHS: found}


def _absolute(path: Path) -> str:
    """The absolute path without links in its folders. Its last part may be a link."""
    return os.path.join(os.path.realpath(path.parent), path.name) if path.name else str(path)


def recorded_paths(recorded: Mapping[str, Any]) -> list[list[str]]:
    """What `record_paths` gave, from a run's settings. A stranger's may hold anything there."""
    entries = recorded.get(PATHS)
    return [[str(part) for part in entry] for entry in _listed(entries) if _is_entry(entry)]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@dataclass(frozen=True)
class Found:
    """Where a path of a run's settings was looked for, and the first place where something is."""

    path: Path | None
    looked: tuple[Path, ...]


def find_path(text: str, recorded: Mapping[str, Any], run: Path | None) -> Found:
    """Find a path that a run's settings name.

    An absolute path that is there is meant as it is. Others are looked for as seen from the run,
    then where they were when the run was made, then from the working directory. The settings may be
    a stranger's, so nothing is taken for granted.

    recorded  what `record_paths` gave, among other things
    run       the run's directory. None if it is not known
    """
    if os.path.isabs(text) and os.path.exists(text):
        return Found(Path(text), (Path(text),))
    places = next((entry[1:] for entry in recorded_paths(recorded) if entry[0] == text), [])
    chosen = [Path(p) for p in places if os.path.isabs(p)]
    if run is not None:
        base = os.path.realpath(run)
        chosen = [Path(os.path.normpath(os.path.join(base, p))) for p in places[:1]] + chosen
    looked = tuple(dict.fromkeys([*chosen, Path(text).absolute()]))
    there = next((place for place in looked if os.path.exists(place)), None)
    if there is not None and os.path.exists(text) and os.path.samefile(text, there):
        there = Path(text)
    return Found(there, looked)


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) > 1 and all(is_path(str(p)) for p in entry)


def run_of_settings(file: Path) -> Path | None:
    """The directory of the run that a settings file lies in. None if it lies in no run."""
    return file.parent if os.path.isfile(file.parent / CONFIG) else None
