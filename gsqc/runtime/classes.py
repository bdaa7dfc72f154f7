# SPDX-License-Identifier: Apache-2.0
"""What a session reads of a classifier's logits, and which bundles are classifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.bundle import Bundle
from gsqc.data import TokenSequence
from gsqc.errors import OptionError
from gsqc.runtime.requirements import LOGITS

Float64 = npt.NDArray[np.float64]


def require_classifier(bundle: Bundle) -> tuple[str, ...]:
    """The labels of a bundle. OptionError if it makes text."""
    labels = bundle.manifest.model.labels
    if labels is None:
        raise OptionError(
            "this bundle makes text, and has no labels",
            "gsqc generate goes on with a text. A classifier is compiled with --task classify",
        )
    return labels


def require_text_maker(bundle: Bundle, what: str) -> Bundle:
    """The bundle. OptionError if it is a classifier, with which `what` cannot be done."""
    if bundle.manifest.model.labels is not None:
        raise OptionError(
            f"this bundle is a classifier, and {what} needs a language model",
            "gsqc classify says which label a text has, and gsqc eval measures it",
        )
    return bundle


def logits_at(tensors: Mapping[str, Any], places: Sequence[int], classes: int) -> Float64:
    """The logits [places, classes] that a session's last run left at these tokens."""
    mantissa = tensors[f"{LOGITS}.m"].reshape(-1, classes)[places].astype(np.float64)
    exponent: npt.NDArray[np.int32] = tensors[f"{LOGITS}.e"].reshape(-1, 1)[places]
    return np.ldexp(mantissa, exponent)


def weight_of_right(tensors: Mapping[str, Any], sequence: TokenSequence, classes: int) -> int:
    """The weight, in Q14, of the texts of a sequence whose likeliest label is theirs.

    A row has one exponent, so the largest mantissa is the largest logit. Of equal ones the first
    counts. Without classes it is 0.
    """
    if not classes:
        return 0
    likeliest = tensors[f"{LOGITS}.m"].reshape(-1, classes).argmax(1)
    return int(sequence.weights[likeliest == sequence.labels].astype(np.int64).sum())
