# SPDX-License-Identifier: Apache-2.0
"""--config and --resume: take a command's options from a settings file. The command line wins."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from gsqc.cli.shared import PRINTING
from gsqc.errors import ConfigError, RunError
from gsqc.option import Option
from gsqc.runtime.store import SETTINGS
from gsqc.training.run_paths import PATHS, Found, find_path, recorded_paths, run_of_settings
from gsqc.training.settings_file import SettingsFile, closest, read_settings
from gsqc.values import shown

COMMANDS = ("compile", "train")
"""The commands that can take their options from a file."""

NOT_SETTINGS = ("config", "resume", "force", "json", "help")
"""Options that say how a command is called, not what it does."""

_FILE, _MISSING = "gsqc.settings_file", "gsqc.missing"
_PATHS = ("bundle", "data", "validation", "images", "run")
"""The settings that are paths, and that a run records (gsqc/training/run_paths.py)."""

_WANTED: dict[type, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    bool: ((bool,), "true or false"),
    str: ((str, int, Decimal), "a text or a number"),
    Path: ((str,), "a path in quotes"),
}
"""For an option of each type: the TOML types that a file may give, and how an error calls them."""


def settings_of(command: Any) -> dict[str, Option]:
    """The options of a command that a file may set, by name."""
    return {o.name: o for o in command.callback.options if o.name not in NOT_SETTINGS}


def _checked(file: SettingsFile, table: str, key: str, declared: Option) -> Any:
    """The value of a key, checked and converted for the command. Raises ConfigError."""
    kind = declared.kind
    types, wanted = _WANTED[kind if kind in _WANTED else str]
    value = file.tables[table][key]
    values = value if isinstance(value, list) and declared.is_list else [value]
    for one in values:
        if not isinstance(one, types) or (isinstance(one, bool) and kind is not bool):
            text = f'"{shown(one)}"' if isinstance(one, str) else shown(one)
            raise file.error(f"{key} is {text}", f"{key} takes {wanted}", table, key)
    taken = [str(one) if types == _WANTED[str][0] else one for one in values]
    made = taken if declared.is_list else taken[0]
    problem = declared.problem(made)
    if problem is not None:
        raise file.error(problem, f"gsqc {table} --help lists what it takes", table, key)
    return made


def _load(context: typer.Context, path: Path, *, links: bool = True) -> None:
    """Make the file's values the defaults of the options that Typer reads later."""
    file, table = read_settings(path, COMMANDS, links=links), str(context.info_name)
    known = settings_of(context.command)
    if table not in file.tables:
        raise file.error(
            f"the file has no table [{table}]",
            f"put the options of gsqc {table} below [{table}]",
            table,
        )
    for key in file.tables[table]:
        if key not in known:
            raise file.error(f"unknown setting {key}", closest(key, known), table, key)
    context.default_map = {
        key: _checked(file, table, key, known[key]) for key in file.tables[table]
    }
    context.meta[_FILE] = file
    if PATHS in file.recorded():
        _find_paths(context, file, table)


def _find_paths(context: typer.Context, file: SettingsFile, table: str) -> None:
    """Replace the paths of a run's settings by where the files are now.

    A file that is not there is an error only if the command line names no other (`require_found`).
    """
    values: dict[str, Any] = context.default_map  # type: ignore[assignment]
    names = {entry[0] for entry in recorded_paths(file.recorded())}
    run, missing = run_of_settings(file.path), context.meta.setdefault(_MISSING, {})
    for key in filter(values.__contains__, _PATHS):
        given = values[key] if isinstance(values[key], list) else [values[key]]
        places = []
        for text in map(str, given):
            found = find_path(text, file.recorded(), run) if text in names else None
            if found is not None and found.path is None and key != "run":
                missing[key] = _not_found(file, table, key, text, found)
            places.append(text if found is None else str(found.path or text))
        values[key] = places if isinstance(values[key], list) else places[0]


def _not_found(file: SettingsFile, table: str, key: str, text: str, found: Found) -> ConfigError:
    looked = ", ".join(map(str, found.looked))
    option = "BUNDLE" if key == "bundle" else f"--{key}"
    return file.error(
        f"{text} is not there (looked for {looked})",
        f"bring it back, or name it on the command line: {option}",
        table,
        key,
    )


def require_found(context: typer.Context) -> None:
    """ConfigError if a settings file names a path that is not there, and it is used."""
    for key, error in context.meta.get(_MISSING, {}).items():
        if _file_of(context, key) is not None:
            raise error


def _load_config(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        _load(context, path)
    return path


def _load_run(context: typer.Context, run: Path | None) -> Path | None:
    if run is not None:
        if not os.path.lexists(run / SETTINGS):
            raise RunError(
                f"{run} has no {SETTINGS} to go on with",
                f"begin a run: gsqc train BUNDLE … --run {run}",
            )
        _load(context, run / SETTINGS, links=False)
        assert isinstance(context.default_map, dict)
        context.default_map["run"] = str(run)  # the run may have been moved
    return run


ConfigOption = Annotated[
    Path | None,
    Option(
        "Settings file, as gsqc init writes it. Options on the command line win.",
        group=PRINTING,
        callback=_load_config,
    ),
]
ResumeOption = Annotated[
    Path | None,
    Option("Go on with this run and its own settings.", group=PRINTING, callback=_load_run),
]


def resolved(context: typer.Context) -> dict[str, Any]:
    """Every setting that a command runs with, from the command line, the file, or a default."""
    return {name: context.params[name] for name in settings_of(context.command)}


def _file_of(context: typer.Context, option: str) -> SettingsFile | None:
    """The settings file, if an option's value comes from it."""
    file: SettingsFile | None = context.meta.get(_FILE)
    source = context.get_parameter_source(option)
    return file if source is not None and source.name == "DEFAULT_MAP" else None


def settings_file_of(context: typer.Context, option: str) -> str | None:
    """The path of the settings file that gives an option's value, None if the user gave it."""
    file = _file_of(context, option)
    return None if file is None else str(file.path)


def recorded(context: typer.Context, option: str, name: str) -> list[Any]:
    """What the settings file records under `name`, if `option` comes from that file.

    The list has one value or none.
    """
    file = _file_of(context, option)
    if file is None:
        return []
    return [value for key, value in file.recorded().items() if key == name]
