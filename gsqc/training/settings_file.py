# SPDX-License-Identifier: Apache-2.0
"""Settings files: reads and writes TOML with one table for each command.

Every error names the file and the line.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from gsqc.errors import ConfigError, OptionError
from gsqc.files.reading import read_file

_MOST_BYTES = 1 << 24
RECORDED = "recorded"
"""The table that says what a run was made with. gsqc train writes it and compares with it."""


@dataclass(frozen=True)
class SettingsFile:
    """The tables of a file, and the line of each name."""

    path: Path
    text: str
    tables: dict[str, dict[str, Any]]

    def line(self, table: str, key: str | None = None) -> int:
        """The line of a table's header, or of a key in the table.

        It is the first line if the name is written in a way that is not looked for.
        """
        current, header = "", 1
        # A name that is not in a table stands before the first table.
        wanted = (table, key) if key is not None else ("", table)
        for number, line in enumerate(self.text.splitlines(), 1):
            if found := re.match(r"\s*\[\s*([\w\"'.-]+)\s*\]", line):
                current = found[1].strip("\"'")
                header = number if current == table else header
            elif current == wanted[0] and re.match(
                rf"\s*[\"']?{re.escape(wanted[1])}[\"']?\s*=", line
            ):
                return number
        return header

    def error(self, message: str, hint: str, table: str, key: str | None = None) -> ConfigError:
        """An error that names the file and the line."""
        return ConfigError(f"{self.path}:{self.line(table, key)}: {message}", hint)

    def recorded(self) -> dict[str, Any]:
        """What the run that wrote the file was made with. Empty if no run wrote it."""
        return self.tables.get(RECORDED, {})


def read_settings(path: Path, commands: Iterable[str], *, links: bool = True) -> SettingsFile:
    """Read a file that has tables for `commands`. Raises ConfigError.

    `links` says whether the path may be a link. Numbers with a fraction become Decimal.
    """
    try:
        text = read_file(path, most_bytes=_MOST_BYTES, links=links).decode("utf-8-sig")
        tables = tomllib.loads(text, parse_float=Decimal)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no settings file {path}", f"write one: gsqc init {path}"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 (byte {error.start})", "save the file as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", "check the path of the settings"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
        where = re.search(r"\(at line (\d+), column \d+\)", str(error))
        place = f"{path}:{where[1]}" if where else str(path)
        reason = re.sub(r" \(at .*\)", "", str(error))
        raise ConfigError(
            f"{place}: not TOML: {reason}", 'write text values in quotes: name = "value"'
        ) from None
    known = [*commands, RECORDED]
    file = SettingsFile(path, text, tables)
    for name, table in tables.items():
        if not isinstance(table, dict):
            hint = f"write the table's name above it, such as [{known[0]}]"
            raise file.error(f"{name} stands outside of a table", hint, name)
        if name not in known:
            raise file.error(
                f"unknown table [{name}]", f"one of {', '.join(f'[{k}]' for k in known)}", name
            )
    return file


def closest(name: str, names: Iterable[str]) -> str:
    """A hint for a name that is unknown: the name that was probably meant, or all names."""
    names = list(names)
    found = difflib.get_close_matches(name.replace("-", "_"), names, 1)
    return f"did you mean {found[0]}?" if found else f"it takes {', '.join(names)}"


def require_known(function: str, given: Iterable[str], names: Iterable[str]) -> None:
    """OptionError for a name that a function of gsqc does not take."""
    names = list(names)
    for name in given:
        if name not in names:
            raise OptionError(f"gsqc.{function} takes no {name}", closest(name, names))


def toml_value(value: Any) -> str:
    """A truth value, whole number, text, path or list as TOML writes it.

    A decimal text becomes a number.
    """
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str) and re.fullmatch(
        r"(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?", value, re.ASCII
    ):
        return value
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def write_table(name: str, values: Mapping[str, Any]) -> str:
    """A table as TOML text. Values that are None are left out."""
    lines = [f"{key} = {toml_value(value)}" for key, value in values.items() if value is not None]
    return "\n".join([f"[{name}]", *lines, ""])
