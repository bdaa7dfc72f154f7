# SPDX-License-Identifier: Apache-2.0
"""The run directory: config.json, state.safetensors, best.safetensors, and log.jsonl with a line
per step.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.json_text import read_json
from gsqc.bundle.plan import TensorPlan
from gsqc.bundle.tensor_file import MappedTensors, check_tensors, tensor_file
from gsqc.errors import RunError

Array = npt.NDArray[Any]
CONFIG, STATE, BEST, LOG = "config.json", "state.safetensors", "best.safetensors", "log.jsonl"
SETTINGS = "config.toml"
RUN_FORMAT = 2
"""What config.json names as its `format_version`: since 2 a run belongs to a bundle's meaning."""
MAXIMUM_STEP = 2**63 - 1
NEW_RUN = "start a new run with another --run"


def write_atomically(path: Path, content: Iterable[bytes | memoryview]) -> None:
    """Replace a file by a new one that is complete on disk first; RunError leaves the old file
    whole.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _write_error(path, error) from None


def _write_error(path: Path, error: OSError) -> RunError:
    what = (
        "disk full while saving"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        else "cannot save"
    )
    return RunError(
        f"{what} {path}: {error.strerror}; the state saved before is whole",
        f"make {path.parent} writable with free space, and run the same command again",
    )


def require_state(path: Path | None, name: str = STATE) -> None:
    """RunError if a run is named that has no saved state: its bundle's initial state would pass for
    a trained one.
    """
    if path is not None and not (path / name).is_file():
        if name == BEST and (path / STATE).is_file():
            raise RunError(
                f"{path} has no best state", "it was trained without --validation; leave --best out"
            )
        raise RunError(
            f"{path} holds no saved state", f"train first: gsqc train BUNDLE --run {path} …"
        )


class RunStore:
    """A run directory of one bundle. Opening it checks that it is this bundle's; RunError if not."""

    def __init__(self, path: Path, bundle: Bundle) -> None:
        self.path, self.bundle = path, bundle
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file", "give a directory with --run")
        self.config = self._read_config()
        self._check_owner()

    def _check_owner(self) -> None:
        """RunError if the config is of another bundle's run, or of an older gsqc's."""
        if not self.config:
            return
        version = self.config.get("format_version", 1)
        if type(version) is not int or version != RUN_FORMAT:
            raise RunError(
                f"the run directory {self.path} has format {version}, this gsqc goes on with format"
                f" {RUN_FORMAT}",
                "use the gsqc and the bundle that began it, or start a new run with another --run",
            )
        if self.config.get("bundle") != self.bundle.meaning:
            raise RunError(
                f"the run directory {self.path} belongs to another bundle"
                f" ({self.config.get('bundle_path', 'unknown')})",
                "use that bundle, or start a new run with another --run",
            )

    def _read_config(self) -> dict[str, Any]:
        file = self.path / CONFIG
        if not file.exists():
            if (self.path / STATE).exists():
                raise RunError(f"{self.path} has a state but no {CONFIG}", NEW_RUN)
            return {}
        try:
            config = read_json(file.read_bytes())
            if not isinstance(config, dict) or not config:
                raise ValueError
        except (ValueError, OSError):
            raise RunError(f"{file} is not JSON", NEW_RUN) from None
        return config

    def begin(self, config: dict[str, Any], settings: str | None = None) -> None:
        """Create the directory and write its config, which names the bundle; `settings` is the text
        of config.toml.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot make {self.path}: {error.strerror}", "give another directory with --run"
            ) from None
        owner = {"bundle": self.bundle.meaning, "bundle_path": str(self.bundle.path)}
        self.config = {**config, "format_version": RUN_FORMAT, **owner}
        write_atomically(self.path / CONFIG, [json.dumps(self.config, indent=2).encode()])
        if settings is not None:
            write_atomically(self.path / SETTINGS, [settings.encode()])

    def save_state(self, tensors: dict[str, Array], step: int, name: str = STATE) -> None:
        """Replace the saved state, or with BEST the best one. Raises RunError, and then the old one
        is whole.
        """
        if not self.config:
            self.begin({})
        write_atomically(
            self.path / name,
            tensor_file(tensors, {"step": str(step), "bundle": self.bundle.meaning}),
        )

    def load_state(
        self, expected: dict[str, TensorPlan], name: str = STATE
    ) -> tuple[MappedTensors, int] | None:
        """The saved tensors, with the names, types and sizes expected, and the step; None if there
        are none.
        """
        file = self.path / name
        if not file.exists():
            return None
        try:
            tensors = MappedTensors(file)
            if tensors.metadata.get("bundle") != self.bundle.meaning:
                raise RunError(f"{file} is the state of another bundle", NEW_RUN)
            step = _step(tensors.metadata.get("step"))
            if set(tensors) != set(expected):
                raise RunError(f"{file} does not hold the tensors of this bundle", NEW_RUN)
            check_tensors(tensors, expected)
        except (ValueError, OSError) as error:
            raise RunError(f"{file} cannot be read ({error})", NEW_RUN) from None
        return tensors, step

    def resume_log(self, step: int) -> list[dict[str, Any]]:
        """Drop log lines of steps after the saved one, which will be made again; the lines that
        stay.

        A run without a saved step begins anew.
        """
        file = self.path / LOG
        if not file.exists():
            return []
        content, kept = file.read_bytes(), []
        for line in content.decode(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                entry = json.loads(line)
                if 0 < step >= entry["step"]:
                    kept.append(entry)
        if _lines(kept) != content:
            self.write_log(kept)
        return kept

    def write_log(self, entries: list[dict[str, Any]]) -> None:
        """Replace the log."""
        write_atomically(self.path / LOG, [_lines(entries)])

    def append_log(self, entries: list[dict[str, Any]]) -> None:
        """A JSON line each; all or none of them are in the log afterwards. RunError for none."""
        file = self.path / LOG
        before = file.stat().st_size if file.exists() else 0
        try:
            with file.open("ab") as log:
                log.write(_lines(entries))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(file, before)
            raise _write_error(file, error) from None


def _lines(entries: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def _step(text: str | None) -> int:
    """The step that a state's metadata name."""
    if text is None or not re.fullmatch("[0-9]{1,19}", text) or int(text) > MAXIMUM_STEP:
        raise ValueError("it does not say its step")
    return int(text)
