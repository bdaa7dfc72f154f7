# SPDX-License-Identifier: Apache-2.0
"""The run directory: config.json, state.safetensors, best.safetensors, and log.jsonl with a line
per step.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import TensorPlan
from gsqc.bundle.tensor_file import MappedTensors, check_tensors, tensor_file
from gsqc.errors import RunError

Array = npt.NDArray[Any]
CONFIG, STATE, BEST, LOG = "config.json", "state.safetensors", "best.safetensors", "log.jsonl"
SETTINGS = "config.toml"


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
        if self.config.get("bundle", bundle.id) != bundle.id:
            raise RunError(
                f"the run directory {path} belongs to another bundle ({self.config.get('bundle_path', 'unknown')})",
                "use that bundle, or start a new run with another --run",
            )

    def _read_config(self) -> dict[str, Any]:
        file = self.path / CONFIG
        if not file.exists():
            if (self.path / STATE).exists():
                raise RunError(
                    f"{self.path} has a state but no {CONFIG}", "start a new run with another --run"
                )
            return {}
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(config, dict):
                raise ValueError
        except (ValueError, RecursionError, OSError):
            raise RunError(f"{file} is not JSON", "start a new run with another --run") from None
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
        self.config = {**config, "bundle": self.bundle.id, "bundle_path": str(self.bundle.path)}
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
            self.path / name, tensor_file(tensors, {"step": str(step), "bundle": self.bundle.id})
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
        hint = "start a new run with another --run"
        try:
            with safe_open(file, framework="numpy") as data:
                metadata = data.metadata() or {}
                names = set(data.keys())
                if metadata.get("bundle") != self.bundle.id:
                    raise RunError(f"{file} is the state of another bundle", hint)
                step = int(metadata["step"])
                if names != set(expected) or step < 0:
                    raise RunError(f"{file} does not hold the tensors of this bundle", hint)
            tensors = MappedTensors(file)
            check_tensors(tensors, expected)
        except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
            raise RunError(f"{file} cannot be read ({error})", hint) from None
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
