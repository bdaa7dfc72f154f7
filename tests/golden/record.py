# SPDX-License-Identifier: Apache-2.0
"""What a configuration gives, as text with one fact a line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

from gsqc.bundle.bundle import Bundle
from gsqc.check.sequences import random_sequences
from gsqc.compiler.compile import compile_model
from gsqc.runtime.session import Session
from gsqc.targets.registry import NATIVE, resolve_target
from tests.golden.configurations import MODELS, Configuration
from tests.golden.write_model import write_model

STEPS, CLIPPED = 3, 3
"""Steps taken, and the one that is clipped."""
RATE, CLIP = Fraction(1, 1000), Fraction(1, 10)
HELD_OUT = 9
"""The random batch that is evaluated."""
PROMPT = "The quick brown fox"
TOKENS = 6
PROGRAM = "program "
"""How lines begin that only a machine with tosa-tools can write."""


def compile_bundle(
    configuration: Configuration, folder: Path, *, code: bool, dump: Path | None = None
) -> Path:
    """Compile a configuration in `folder`: the bundle. Without `code` numpy can step it."""
    model, output = folder / "model", folder / f"{configuration.name}.gsqc"
    write_model(model, MODELS[configuration.model])
    # To make code takes ten times as long as all else, and has no say in the bits.
    target = resolve_target(NATIVE) if code else "numpy"
    compile_model(str(model), configuration.options(output, target, dump))
    return output


def record(configuration: Configuration, folder: Path) -> dict[str, str]:
    """The configuration's golden files by name, as this tree gives them, stepped in numpy."""
    dump = folder / "dump" if configuration.dumped else None
    path = compile_bundle(configuration, folder, code=False, dump=dump)
    bundle = Bundle.open(path)
    lines = [
        *(f"{f.name} {getattr(configuration, f.name)}" for f in fields(configuration)[1:-1]),
        *facts_of_session(Session(bundle, target="numpy")),
        *facts_of_bundle(bundle),
        *facts_of_programs(bundle),
    ]
    files = {f"{configuration.name}.txt": "".join(f"{line}\n" for line in lines)}
    if dump is not None:
        files |= {f"{configuration.name}/{name}": text for name, text in _dumped(dump).items()}
    return files


def facts_of_session(session: Session) -> Iterator[str]:
    """Three steps, an evaluation, and the tokens after a prompt, likely and drawn ones."""
    for step in range(1, STEPS + 1):
        clip = CLIP if step == CLIPPED else None
        result = session.step(random_sequences(session.bundle, step, 0), RATE, clip=clip)
        yield f"step {step} digest {result.digest}"
        yield f"step {step} loss {result.loss!r}"
        if result.gradient_norm is not None:
            yield f"step {step} norm {result.gradient_norm!r}, clipped to {CLIP}"
    evaluation = session.evaluate(random_sequences(session.bundle, HELD_OUT, 0))
    yield f"evaluation loss {evaluation.loss!r}"
    prompt = list(PROMPT.encode())
    for name, temperature in (("greedy", Fraction(0)), ("drawn", Fraction(1))):
        tokens = session.generate(prompt, TOKENS, temperature)
        yield f"tokens {name} {' '.join(map(str, tokens))}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def facts_of_bundle(bundle: Bundle) -> Iterator[str]:
    """Its frozen weights and initial state, its memory, and how often it uses each operator."""
    yield f"base {_sha256(bundle.file('base.safetensors'))}"
    yield f"state {_sha256(bundle.file('state.safetensors'))}"
    yield f"planned peak bytes {bundle.manifest.planned_peak_bytes}"
    for name, count in sorted(bundle.manifest.operators.items()):
        yield f"operator {name} {count}"


def facts_of_programs(bundle: Bundle) -> Iterator[str]:
    """Its TOSA programs, or none where tosa-tools is not installed."""
    for name, path in sorted(bundle.files.items()):
        if name.endswith(".tosa"):
            yield f"{PROGRAM}{path.stem} {_sha256(path)}"


def _dumped(folder: Path) -> dict[str, str]:
    """The printed graph after each pass: the functions that the pass made or changed."""
    texts, before = {}, {}
    for path in sorted(folder.iterdir()):
        functions = re.split(r"^(?=function )", path.read_text(encoding="utf-8"), flags=re.M)
        kept = []
        for function in filter(None, functions):
            name = function.partition("(")[0]
            unchanged = before.get(name) == function.rstrip()
            kept.append(f"{name}: unchanged\n" if unchanged else f"{function.rstrip()}\n")
            before[name] = function.rstrip()
        # By the pass alone: a new pass then renames no file.
        texts[path.name.partition("_")[2]] = "\n".join(kept)
    return texts
