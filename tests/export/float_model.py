# SPDX-License-Identifier: Apache-2.0
"""Logits of integer sessions and of float models, and the distance between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from gsqc.runtime.session import Session
from gsqc.runtime.token_reader import TokenReader


def session_logits(session: Session, tokens: Sequence[int]) -> np.ndarray:
    """The logits [T, V] of the session's decoder after each token, in float64."""
    reader = TokenReader(session.executor, session.plan)
    reader.start()
    rows = []
    for token in tokens:
        chunks = reader.read([token])
        rows.append(np.concatenate([np.ldexp(m.astype(np.float64), e) for m, e in chunks]))
    return np.stack(rows)[:, : session.bundle.manifest.model.vocabulary]


def model_logits(model: Any, tokens: Sequence[int]) -> np.ndarray:
    """The logits [T, V] of a transformers or PEFT model, in float64."""
    with torch.no_grad():
        result = model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]
    return np.asarray(result.double().numpy())


def with_adapter(model: Any, directory: Path) -> Any:
    """The model under the adapter of a PEFT directory."""
    return PeftModel.from_pretrained(model, str(directory)).eval()


def distance(ours: np.ndarray, other: np.ndarray) -> float:
    """The RMS of the difference, over the RMS of the logits.

    Each token's mean is taken off first, because softmax ignores it.
    """
    centred = other - other.mean(-1, keepdims=True)
    difference = (ours - ours.mean(-1, keepdims=True)) - centred
    return float(np.sqrt((difference**2).mean() / (centred**2).mean()))
