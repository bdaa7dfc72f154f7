# SPDX-License-Identifier: Apache-2.0
"""Whose code may run: code of a bundle that the user named, or that this user's gsqc made.

A bundle's code runs with the rights of the user. A command that takes its bundle from a run or a
settings file, which may be a stranger's, asks `require_trusted`. The record holds the sha256 of
each file of code that gsqc compiled here, and of code that the user confirmed with `gsqc trust`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import CODE
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import BundleError, TargetError
from gsqc.files.reading import read_file
from gsqc.files.writing import append_to_file
from gsqc.targets.interface import Target
from gsqc.targets.registry import NATIVE

RECORD = "trusted-code.txt"
MAXIMUM_BYTES = 64 << 20
_LOG = logging.getLogger("gsqc")


def record_file() -> Path:
    """The record of this user: $XDG_STATE_HOME/gsqc/trusted-code.txt, in ~/.local/state without."""
    given = os.environ.get("XDG_STATE_HOME", "")
    # The specification says that a relative path is to be ignored.
    base = Path(given) if given.startswith("/") else Path(os.path.expanduser("~/.local/state"))
    return base / "gsqc" / RECORD


def code_hashes(bundle: Bundle, folder: str = CODE) -> dict[str, str]:
    """The sha256 of each file of code, by its name in the bundle.

    folder  a target's, or all of them
    """
    files = bundle.manifest.files
    return {name: files[name].sha256 for name in files if name.startswith(folder)}


def trusted_hashes() -> frozenset[str]:
    """The hashes in the record. Lines of other forms are passed over. Raises TargetError."""
    file = record_file()
    try:
        text = read_file(file, most_bytes=MAXIMUM_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise TargetError(
            f"cannot read {file}: {error.strerror}", "make it readable, or delete it"
        ) from None
    return frozenset(re.findall(r"^([0-9a-f]{64}) ", text, re.MULTILINE))


def add_trusted(hashes: Iterable[str], reason: str) -> None:
    """Add hashes to the record. Raises OSError.

    reason  a few words on where the code comes from, for people who read the record
    """
    words = " ".join(reason.split())
    lines = "".join(f"{sha256} {words}\n" for sha256 in sorted(set(hashes) - trusted_hashes()))
    if lines:
        file = record_file()
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        append_to_file(file, lines.encode("utf-8", "replace"))


def trust_own(written: BundleWriter, target: Target) -> None:
    """Note that this user's gsqc made a target's code. Without a record it warns."""
    made = [e.sha256 for name, e in written.files.items() if name.startswith(target.code_file(""))]
    try:
        add_trusted(made, f"made for {written.path}")
    except (OSError, TargetError) as error:
        _LOG.warning(
            "cannot note that this code is your own (%s): gsqc train --resume will ask for "
            "gsqc trust",
            error,
        )


def is_trusted(bundle: Bundle, target: Target) -> bool:
    """Whether the bundle's code for a target may run though the user did not name the bundle."""
    if target.runs_any_bundle:  # no code of the bundle runs
        return True
    return trusted_hashes().issuperset(code_hashes(bundle, target.code_file("")).values())


def require_trusted(bundle: Bundle, target: Target, named_by: str) -> None:
    """BundleError unless the bundle's code for a target may run.

    named_by  what named the bundle: a run or a settings file
    """
    if not is_trusted(bundle, target):
        raise BundleError(
            f"{named_by} names the bundle {bundle.path}, whose code for {target.name} your gsqc "
            "did not make",
            f"if you trust who made it: gsqc trust {bundle.path}; else make its code anew from its "
            f"plan: gsqc retarget {bundle.path} --target {NATIVE} --only",
        )
