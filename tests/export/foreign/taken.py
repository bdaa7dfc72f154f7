# SPDX-License-Identifier: Apache-2.0
"""Import into a bundle, and what the run then adds to a linear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gsqc.bundle.bundle import Bundle
from gsqc.cli.main import main
from gsqc.export.adapter import LinearAdapter, read_adapter


def take(bundle: Bundle, kind: str, path: Path, run: Path, *more: str) -> int:
    """The exit status of gsqc import."""
    arguments = ["import", str(bundle.path), f"--{kind}", str(path), "--run", str(run), *more]
    return main(arguments)


def added(bundle: Bundle, run: Path) -> dict[str, np.ndarray[Any, Any]]:
    """alpha / rank · B·A of each linear of a run, in float64, by Hugging Face's name."""
    return {linear.module: _sum(linear) for linear in read_adapter(bundle, run).linears}


def _sum(linear: LinearAdapter) -> np.ndarray[Any, Any]:
    form = linear.settings.as_lora(linear.exact(), linear.arrays)
    assert form is not None
    return np.asarray(form.alpha / len(form.a) * (form.b @ form.a))


def state_of(bundle: Bundle, run: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Every matrix of a run's adapter, as integers."""
    return {
        f"{linear.module}.{name}": p
        for linear in read_adapter(bundle, run).linears
        for name, p in linear.matrices.items()
    }
