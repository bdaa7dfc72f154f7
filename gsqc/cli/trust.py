# SPDX-License-Identifier: Apache-2.0
"""gsqc trust: lets a bundle's code run for runs that name the bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from gsqc.bundle.bundle import Bundle
from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.errors import BundleError, OptionError
from gsqc.option import Option
from gsqc.printable import printable
from gsqc.targets.trust import add_trusted, code_hashes, record_file


def trust(
    bundle: Annotated[
        Path, Option("A bundle whose maker you trust.", is_argument=True, example="model.gsqc")
    ],
    yes: Annotated[bool, Option("Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Let BUNDLE's native code run when a run or a settings file names the bundle.

    Code that your own gsqc made needs no such confirmation. Nothing of the bundle runs now.
    """
    out = Output(json)
    opened = Bundle.open(bundle)
    hashes = code_hashes(opened)
    out.say(f"{bundle} has code for {', '.join(opened.manifest.targets) or 'no target'}:")
    for name, sha256 in hashes.items():
        out.say(f"  {sha256[:16]}  {name}")
    if not yes and not _is_confirmed():
        raise OptionError("the bundle is not trusted", "answer yes, or give --yes")
    try:
        add_trusted(hashes.values(), f"trusted: {bundle}")
    except OSError as error:
        raise BundleError(
            f"cannot write {record_file()}: {error.strerror}", "make its folder writable"
        ) from None
    out.say(f"trusted {len(hashes)} files of code; the record is {record_file()}")
    out.emit({"bundle": str(bundle), "trusted": sorted(hashes.values())})


def _is_confirmed() -> bool:
    """Ask on the terminal. Without one, nobody can confirm."""
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(
        printable("This code runs with all your rights. Do you trust who made it? [yes/no] ")
    )
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
