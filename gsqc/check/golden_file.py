# SPDX-License-Identifier: Apache-2.0
"""Golden files: `gsqc check --golden FILE` compares with their digests and `--update` writes them.

A golden file is JSON with one fact a line, so that its changes can be reviewed like those of code:

    format     the version of the format
    bundle     what the bundle was compiled from: model, bits, adapter, lengths, seed
    contents   sha256 of frozen weights, initial state and plan
    seed       the seed of the random batches
    steps      the digest after each step
    written    versions and machine that gave the digests, targets and code of the bundle
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.json_text import read_json
from gsqc.check.golden import (
    Golden,
    are_digests,
    code_of,
    contents_of,
    settings_of,
)
from gsqc.errors import GoldenError
from gsqc.files.reading import read_file
from gsqc.files.writing import replace_file
from gsqc.version import __version__

FORMAT = "gsqc-golden-1"
_MOST_BYTES = 1 << 24
_AGAIN = "write it with gsqc check BUNDLE --golden FILE --update"


def write_golden(path: Path, bundle: Bundle, seed: int, digests: Sequence[str]) -> None:
    """Write the digests of a bundle's first steps. Raises GoldenError."""
    content = {
        "format": FORMAT,
        "bundle": settings_of(bundle),
        "contents": contents_of(bundle),
        "seed": seed,
        "steps": list(digests),
        "written": {
            "gsqc": __version__,
            "numpy": np.__version__,
            "machine": platform.machine(),
            "targets": list(bundle.manifest.targets),
            "code": code_of(bundle),
        },
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, [json.dumps(content, indent=1).encode(), b"\n"])
    except OSError as error:
        raise GoldenError(f"cannot write {path}: {error.strerror}", "choose another file") from None


def read_golden(path: Path, bundle: Bundle, seed: int, steps: int) -> Golden:
    """The digests in a file.

    GoldenError unless they are of this bundle and this seed, and of at least `steps` steps.
    """
    content = _read(path)
    ours, theirs = settings_of(bundle), content["bundle"]
    other = [name for name, value in ours.items() if theirs.get(name) != value]
    if other:
        differences = "; ".join(f"{n} {theirs.get(n)} in place of {ours[n]}" for n in other)
        raise GoldenError(
            f"{path} holds digests of another bundle: {differences}",
            "name the file of this bundle, or write one with --update",
        )
    if content["seed"] != seed:
        raise GoldenError(
            f"{path} holds digests of seed {content['seed']}, not of {seed}",
            f"check with --seed {content['seed']}",
        )
    if len(content["steps"]) < steps:
        count = len(content["steps"])
        raise GoldenError(
            f"{path} holds digests of {count} steps, and {steps} were asked for",
            f"check with --steps {count}, or write the file again with --update",
        )
    written = content["written"]
    return Golden(
        str(path),
        seed,
        tuple(content["steps"][:steps]),
        content["contents"],
        str(written.get("code")),
        str(written.get("gsqc")),
    )


def _read(path: Path) -> dict[str, Any]:
    """The content of the file, with every field checked for its type. Raises GoldenError."""
    try:
        content = read_json(read_file(path, most_bytes=_MOST_BYTES))
    except FileNotFoundError:
        raise GoldenError(f"there is no file {path}", _AGAIN) from None
    except OSError as error:
        raise GoldenError(
            f"cannot read {path}: {error.strerror}", "name the file that --update wrote"
        ) from None
    except ValueError:
        raise GoldenError(f"{path} is not a golden file: it is not JSON", _AGAIN) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        version = content.get("format") if isinstance(content, dict) else None
        raise GoldenError(
            f"{path} is not a golden file: its format is {version}, not {FORMAT}", _AGAIN
        )
    tables = [name for name in ("bundle", "contents", "written") if type(content.get(name)) is dict]
    if (
        len(tables) < 3
        or type(content.get("seed")) is not int
        or not are_digests(content.get("steps"))
    ):
        raise GoldenError(f"{path} is a damaged golden file", _AGAIN)
    return content
