# SPDX-License-Identifier: Apache-2.0
"""RunStore: reads and writes a run directory.

config.json        settings of the run, and the bundle that it belongs to
config.toml        the same settings as a file for gsqc train --config
state.safetensors  the state after the last save
best.safetensors   the state of the lowest held-out loss
log.jsonl          a line per step
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.json_text import read_json
from gsqc.bundle.plan import TensorPlan
from gsqc.bundle.tensor_file import MappedTensors, check_tensors, tensor_file
from gsqc.data.form import DataForm
from gsqc.errors import RunError
from gsqc.files.reading import open_file, read_file
from gsqc.files.writing import Content, append_to_file, remove_leftovers, replace_file
from gsqc.runtime.run_log import log_entry

Array = npt.NDArray[Any]
CONFIG, STATE, BEST, LOG = "config.json", "state.safetensors", "best.safetensors", "log.jsonl"
SETTINGS = "config.toml"
FILES = (CONFIG, SETTINGS, STATE, BEST, LOG)
MAXIMUM_FILE_BYTES = 1 << 30
"""Of a file of a run that is read as a whole. The longest log is shorter."""
RUN_FORMAT = 2
"""The `format_version` in config.json. Since 2, a run belongs to a bundle's meaning."""
MAXIMUM_STEP = 2**63 - 1
NEW_RUN = "start a new run with another --run"
DAMAGED = f"bring it back from a copy of the run, or {NEW_RUN}"


def write_atomically(path: Path, content: Content) -> None:
    """Replace a file of a run by a new one. RunError, and then the old file is still there."""
    try:
        replace_file(path, content)
    except OSError as error:
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


def _read_error(path: Path, error: OSError) -> RunError:
    """The file may be whole, so the hint must not cost the user the run."""
    return RunError(
        f"cannot read {path}: {error.strerror}",
        "make it readable, and run the same command again: nothing of the run is lost",
    )


def require_state(path: Path | None, name: str = STATE) -> None:
    """RunError if a run is named and has no saved state.

    Without this check the bundle's initial state would pass for a trained one.
    """
    if path is not None and not os.path.lexists(path / name):
        if name == BEST and os.path.lexists(path / STATE):
            raise RunError(
                f"{path} has no best state, because it was trained without --validation",
                "leave --best out",
            )
        raise RunError(
            f"{path} holds no saved state", f"train first: gsqc train BUNDLE --run {path} …"
        )


class RunStore:
    """The directory of a run of one bundle. RunError if the run is of another bundle.

    before_save  is called before a state is written, and may forbid it by raising an error
    """

    def __init__(self, path: Path, bundle: Bundle) -> None:
        self.path, self.bundle = path, bundle
        self.before_save: Callable[[], object] = lambda: None
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file", "give a directory with --run")
        self.config = self._read_config()
        self._check_owner()

    @property
    def data_form(self) -> DataForm | None:
        """The form of the run's data. None if nothing sound is recorded."""
        return DataForm.of_config(self.config)

    def _check_owner(self) -> None:
        """RunError if the run belongs to another bundle or has the format of another gsqc."""
        if not self.config:
            return
        version = self.config.get("format_version", 1)
        if type(version) is not int or version != RUN_FORMAT:
            raise RunError(
                f"the run directory {self.path} has format {version}, and this gsqc goes on with "
                f"format {RUN_FORMAT}",
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
        content = self._read(CONFIG)
        if content is None:
            if os.path.lexists(self.path / STATE):
                raise RunError(f"{self.path} has a state but no {CONFIG}", DAMAGED)
            return {}
        try:
            config = read_json(content)
            if not isinstance(config, dict) or not config:
                raise ValueError("it is no object")
        except ValueError as error:
            raise RunError(f"{file} is damaged: not JSON ({error})", DAMAGED) from None
        return config

    def _read(self, name: str) -> bytes | None:
        """The content of a file of the run, None if there is none. RunError if it is unreadable."""
        try:
            return read_file(self.path / name, most_bytes=MAXIMUM_FILE_BYTES, links=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _read_error(self.path / name, error) from None

    def begin(self, config: dict[str, Any], settings: str | None = None) -> None:
        """Create the directory and write its config, which names the bundle.

        `settings` is the text of config.toml.
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
        """Replace the saved state, or the best state if `name` is BEST.

        Raises RunError, and then the old state is still there.
        """
        self.before_save()
        if not self.config:
            self.begin({})
        write_atomically(
            self.path / name,
            tensor_file(tensors, {"step": str(step), "bundle": self.bundle.meaning}),
        )

    def load_state(
        self, expected: dict[str, TensorPlan], name: str = STATE
    ) -> tuple[MappedTensors, int] | None:
        """The saved tensors and their step, or None if nothing was saved.

        RunError unless the tensors have the expected names, types and sizes.
        """
        file = self.path / name
        try:
            with open_file(file, links=False) as opened:
                tensors = MappedTensors(opened)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _read_error(file, error) from None
        except ValueError as error:
            raise RunError(f"{file} is damaged ({error})", DAMAGED) from None
        if tensors.metadata.get("bundle") != self.bundle.meaning:
            raise RunError(f"{file} is the state of another bundle", NEW_RUN)
        try:
            step = _step(tensors.metadata.get("step"))
            if set(tensors) != set(expected):
                raise ValueError("it does not hold the tensors of this bundle")
            check_tensors(tensors, expected)
        except ValueError as error:
            raise RunError(f"{file} is damaged ({error})", DAMAGED) from None
        return tensors, step

    def resume_log(self, step: int) -> list[dict[str, Any]]:
        """Drop the log lines after the saved step, and return those that stay.

        The dropped steps will be run again. A run without a saved step begins anew. Temporary files
        that a killed process left are removed.
        """
        remove_leftovers(self.path, FILES)
        content, kept = self._read(LOG), []
        if content is None:
            return []
        for line in content.decode(errors="replace").splitlines():
            entry = log_entry(line)
            if entry is not None and 0 < step >= entry["step"]:
                kept.append(entry)
        if _lines(kept) != content:
            self.write_log(kept)
        return kept

    def write_log(self, entries: list[dict[str, Any]]) -> None:
        """Replace the log by these lines."""
        write_atomically(self.path / LOG, [_lines(entries)])

    def append_log(self, entries: list[dict[str, Any]]) -> None:
        """Add a JSON line for each entry, or none at all. RunError if none could be added."""
        try:
            append_to_file(self.path / LOG, _lines(entries))
        except OSError as error:
            raise _write_error(self.path / LOG, error) from None


def _lines(entries: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


def _step(text: str | None) -> int:
    """The step in a state's metadata."""
    if text is None or not re.fullmatch("[0-9]{1,19}", text) or int(text) > MAXIMUM_STEP:
        raise ValueError("it does not say its step")
    return int(text)
