# SPDX-License-Identifier: Apache-2.0
"""gsqc compiles a language model into a fine-tuning step made of integers only.

    import gsqc

    gsqc.compile("smollm2-135m", "smol.gsqc", target="native", bits="4-8-8")
    result = gsqc.train("smol.gsqc", "notes.jsonl", run="runs/notes", steps=200, lr=1e-3)
    print(gsqc.generate("smol.gsqc", "Define LIBERTY", run="runs/notes"))

`import gsqc` loads nothing else. Each name loads what it needs when it is first used. Training
never loads torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gsqc.version import __version__

if TYPE_CHECKING:
    from gsqc.api import compile, evaluate, generate, train
    from gsqc.errors import GsqcError
    from gsqc.runtime.classify import classify
    from gsqc.runtime.session import Session
    from gsqc.training.callbacks import StopTraining
    from gsqc.training.train_result import TrainResult

_WHERE = {
    "classify": "gsqc.runtime.classify",
    "compile": "gsqc.api",
    "evaluate": "gsqc.api",
    "generate": "gsqc.api",
    "train": "gsqc.api",
    "GsqcError": "gsqc.errors",
    "Session": "gsqc.runtime.session",
    "StopTraining": "gsqc.training.callbacks",
    "TrainResult": "gsqc.training.train_result",
}

__all__ = [
    "GsqcError",
    "Session",
    "StopTraining",
    "TrainResult",
    "__version__",
    "classify",
    "compile",
    "evaluate",
    "generate",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'gsqc' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
