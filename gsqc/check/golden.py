# SPDX-License-Identifier: Apache-2.0
"""Golden digests: compares the digests of a bundle's first steps with those they must have.

These come from the bundle, where the compiling machine left them, or from a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import BASE, CODE, INITIAL_STATE, PLAN
from gsqc.bundle.manifest import AGAIN
from gsqc.errors import BundleError
from gsqc.version import __version__

COMPILING_MACHINE = "the compiling machine"
_SETTINGS = ("bits", "base", "adapter", "optimizer", "sequence_length", "batch", "seed")
_MODEL = ("architecture", "layers", "hidden", "vocabulary")


@dataclass(frozen=True)
class Golden:
    """The digests that steps must give.

    source    where the digests come from: COMPILING_MACHINE, or the name of a file
    seed      the seed of the random batches
    steps     the digest after each step, from the first
    contents  sha256 of each part of the bundle that gave the digests, if a file names it
    code      sha256 of the compiled code that gave the digests, if a file names it
    version   the gsqc that gave the digests, if a file names it
    """

    source: str
    seed: int
    steps: tuple[str, ...]
    contents: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    version: str = __version__


@dataclass(frozen=True)
class DigestDifference:
    """The first digest that differs from the golden one, and a sentence on what has changed."""

    step: int
    target: str
    digest: str
    golden: str
    changed: str
    sentence: str

    def text(self, source: str) -> str:
        """The difference from the digests of `source`, in one line."""
        return (
            f"step {self.step} on {self.target}: {self.digest[:16]}, and {source} says"
            f" {self.golden[:16]}. {self.sentence}"
        )


@dataclass(frozen=True)
class Comparison:
    """How many steps were compared with the digests of a source, and the first difference."""

    source: str
    steps: int
    difference: DigestDifference | None


# -------------------------------------------------------------------------------------------------
# what a bundle holds


def settings_of(bundle: Bundle) -> dict[str, Any]:
    """The settings that a bundle was compiled with, by which a golden file knows its bundle."""
    manifest = bundle.manifest
    texts = {"adapter": str(manifest.adapter), "optimizer": str(manifest.trained_by())}
    data = manifest.to_json() | texts
    model = {name: data["model"][name] for name in _MODEL}
    return {"model": model, **{name: data[name] for name in _SETTINGS}}


def contents_of(bundle: Bundle) -> dict[str, str]:
    """The sha256 of each part that decides the bits: frozen weights, initial state and plan."""
    parts = {"base": BASE, "state": INITIAL_STATE, "plan": PLAN}
    files = bundle.manifest.files
    return {part: files[name].sha256 for part, name in parts.items() if name in files}


def code_of(bundle: Bundle) -> str:
    """The sha256 over the compiled code. It must not decide the bits, so it is a suspect."""
    files = bundle.manifest.files
    lines = [f"{name} {files[name].sha256}" for name in sorted(files) if name.startswith(CODE)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def are_digests(value: object) -> bool:
    """Whether a value from a JSON file is a list of one sha256 or more."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(d, str) and re.fullmatch("[0-9a-f]{64}", d) for d in value)
    )


def own_golden(bundle: Bundle) -> Golden | None:
    """The digests that the compiling machine left in the bundle, or None. Raises BundleError."""
    first = bundle.manifest.golden
    if first is None:
        return None
    if not are_digests(list(first.steps)):
        raise BundleError("the golden digests in the bundle's manifest are malformed", AGAIN)
    return Golden(COMPILING_MACHINE, first.seed, first.steps)


# -------------------------------------------------------------------------------------------------
# comparison


def compare(golden: Golden, bundle: Bundle, targets: Mapping[str, Sequence[str]]) -> Comparison:
    """Compare each target's digests with the golden ones, for the steps that both have."""
    steps = min(len(golden.steps), max((len(d) for d in targets.values()), default=0))
    for step in range(steps):
        for target, digests in targets.items():
            if step < len(digests) and digests[step] != golden.steps[step]:
                changed, sentence = _what_changed(golden, bundle, target)
                difference = DigestDifference(
                    step + 1, target, digests[step], golden.steps[step], changed, sentence
                )
                return Comparison(golden.source, steps, difference)
    return Comparison(golden.source, steps, None)


def _what_changed(golden: Golden, bundle: Bundle, target: str) -> tuple[str, str]:
    """The likeliest cause of a difference (bundle, code, gsqc or machine), and a sentence."""
    if golden.source == COMPILING_MACHINE:
        return "machine", "This machine computes other bits than the one that compiled the bundle."
    now = contents_of(bundle)
    parts = [name for name in now if golden.contents.get(name) != now[name]]
    if parts:
        return "bundle", f"The bundle changed since the file was written: {', '.join(parts)}."
    if target in ("native", *bundle.manifest.targets) and golden.code != code_of(bundle):
        return "code", "The bundle's compiled code changed since the file was written."
    if golden.version != __version__:
        return "gsqc", f"The file was written by gsqc {golden.version}, this is gsqc {__version__}."
    return "machine", "The bundle is the one that the file was written from: the machine changed."
