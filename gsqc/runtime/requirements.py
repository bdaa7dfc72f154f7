# SPDX-License-Identifier: Apache-2.0
"""What a session requires of a bundle's plan before it takes memory, and of a sequence before it
runs it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from gsqc.bundle.image_file import IMAGE_ROWS
from gsqc.bundle.machine import physical_memory
from gsqc.bundle.plan import Plan
from gsqc.data import WEIGHT_ONE, TokenSequence
from gsqc.decimals import as_fraction
from gsqc.errors import BundleError, DataError, OptionError
from gsqc.limits import MAXIMUM_CLIP, MAXIMUM_SEQUENCES
from gsqc.numerics.optim.optimizer import STEP_NUMBER, Optimizer

SCHEDULES = ("prepare", "evaluate")
"""The schedules of every bundle, beside those of its optimizer."""
DECODE = "decode"
"""A schedule of bundles that make text. A classifier has none."""
PREFILL = "prefill"
"""A schedule that a bundle may have. It reads a prompt `chunk` tokens at a time."""
SEQUENCE_INPUTS = ("tokens", "labels", "weights", "positions")
GENERATION_INPUTS = ("token", "position")
CHUNK_INPUTS = ("chunk", "chunk_positions")
LOSS, LOGITS = "loss", "logits"
NORM_SUMS = ("square_sum.m", "square_sum.e")
AGAIN = "compile the model again"


def require_session(
    plan: Plan, sequence_length: int, optimizer: Optimizer, classes: int = 0
) -> None:
    """BundleError unless the plan has the schedules and buffers of a training session and fits
    into this machine. gsqc-step requires the same (runner/requirements.c).

    classes  of a classifier; 0: the bundle makes text
    """
    for schedule in (*SCHEDULES, *optimizer.schedules, *(() if classes else (DECODE,))):
        if schedule not in plan.schedules:
            raise BundleError(f"the bundle's plan has no schedule {schedule}", AGAIN)
    if not any(kernel.op == optimizer.op.name for kernel in plan.kernels.values()):
        raise BundleError(f"the bundle's plan does not update by {optimizer.kind}", AGAIN)
    _require(plan, "input", dict.fromkeys(SEQUENCE_INPUTS, sequence_length))
    counts = {name: math.prod(value.shape) for name, value in optimizer.all_inputs.items()}
    counts |= {STEP_NUMBER: 1} if STEP_NUMBER in plan.buffers["input"] else {}
    _require(plan, "input", counts | ({} if classes else dict.fromkeys(GENERATION_INPUTS, 1)))
    if PREFILL in plan.schedules:
        chunk = plan.buffers["input"].get(CHUNK_INPUTS[0])
        count = chunk.count if chunk is not None else 0
        _require(plan, "input", dict.fromkeys(CHUNK_INPUTS, count))
        if count < 2:
            raise BundleError(f"the bundle's plan reads prompts by {count} tokens", AGAIN)
    _require(plan, "output", {LOSS: sequence_length})
    if classes:
        logits = {f"{LOGITS}.m": sequence_length * classes, f"{LOGITS}.e": sequence_length}
        _require(plan, "output", logits)
    if optimizer.differentiates:
        _require(plan, "gradient", dict.fromkeys(NORM_SUMS, 1))
    _require_memory(
        "the bundle",
        _held_bytes(plan),
        "run it on a larger machine, or compile another bundle with a shorter --seq",
    )


def _held_bytes(plan: Plan) -> int:
    """What every session holds in memory. The base is mapped, and gradient sums come later."""
    return plan.peak_bytes + plan.buffer_bytes("cache")


def require_gradients(plan: Plan) -> None:
    """BundleError unless the gradient sums of a step of several sequences fit in memory too."""
    needed = _held_bytes(plan) + plan.buffer_bytes("gradient")
    _require_memory(
        "a step of several sequences", needed, "take steps of one sequence without --clip"
    )


def _require_memory(what: str, needed: int, hint: str) -> None:
    there = physical_memory()
    if needed > there:
        raise BundleError(
            f"{what} needs {needed >> 20} MiB of memory and this machine has {there >> 20}", hint
        )


def _require(plan: Plan, kind: str, counts: dict[str, int]) -> None:
    buffers = plan.buffers.get(kind, {})
    for name, count in counts.items():
        tensor = buffers.get(name)
        if tensor is None or (tensor.dtype, tensor.count) != ("int32", count):
            raise BundleError(f"the bundle's plan has no buffer {name} of {count} int32", AGAIN)


def image_space(plan: Plan) -> tuple[int, int]:
    """The rows of images that a sequence may have, and their width. (0, 0): it takes none."""
    inputs = plan.buffers["input"]
    if f"{IMAGE_ROWS}.e" not in inputs:
        return 0, 0
    rows = inputs[f"{IMAGE_ROWS}.e"].count
    return rows, inputs[f"{IMAGE_ROWS}.m"].count // rows


def require_images(sequence: TokenSequence, space: tuple[int, int]) -> int:
    """The rows of a sequence's images. DataError unless a bundle of this space can take them."""
    if sequence.image_rows is None:
        return 0
    codes, exponents = sequence.image_rows
    (most, width), count = space, len(exponents)
    if count > most:
        has = f"takes {most} in a sequence" if most else "takes no images"
        raise DataError(
            f"a sequence has {count} rows of images, and the bundle {has}",
            f"compile with --image-rows {count}",
        )
    types = (codes.dtype.name, exponents.dtype.name)
    if codes.shape != (count, width) or types != ("int16", "int8"):
        raise DataError(
            f"rows of images of shape {list(codes.shape)}, and the bundle takes {width} columns",
            "give the images of the bundle's own model, made with gsqc images",
        )
    return count


def require_sequence(
    sequence: TokenSequence,
    length: int,
    vocabulary: int,
    classes: int = 0,
    space: tuple[int, int] = (0, 0),
) -> None:
    """DataError unless a bundle of this sequence length and vocabulary can take the sequence.

    classes  of a classifier, whose labels are no tokens; 0 for a language model
    space    for images (`image_space`)
    """
    if not isinstance(sequence, TokenSequence):
        raise DataError(
            f"a {type(sequence).__name__} is no TokenSequence",
            "make one of three int32 vectors: gsqc.data.TokenSequence(tokens, labels, weights)",
        )
    for name in SEQUENCE_INPUTS:
        values = getattr(sequence, name)
        if values.shape != (length,):
            raise DataError(
                f"a sequence has {values.size} {name}, and the bundle takes {length}",
                "pad it to the bundle's sequence length",
            )
    rows = require_images(sequence, space)
    limits = {"tokens": vocabulary + rows - 1, "labels": (classes or vocabulary) - 1}
    for name, limit in {**limits, "weights": WEIGHT_ONE}.items():
        values = getattr(sequence, name)
        if values.min() < 0 or values.max() > limit:
            raise DataError(
                f"{name} outside [0, {limit}]", "use the tokenizer of the bundle's model"
            )
    places = sequence.positions
    if places[0] != 0 or ((places[1:] != 0) & (places[1:] != places[:-1] + 1)).any():
        raise DataError(
            "positions that do not count up from 0 in each record",
            "leave them out if the sequence is one record",
        )


def require_sequences(
    sequences: Sequence[TokenSequence],
    length: int,
    vocabulary: int,
    classes: int = 0,
    space: tuple[int, int] = (0, 0),
) -> Sequence[TokenSequence]:
    """The sequences. DataError unless a bundle can take each of them."""
    if not isinstance(sequences, Sequence):
        raise DataError(
            f"a {type(sequences).__name__} is no list of sequences",
            "give a list of gsqc.data.TokenSequence",
        )
    for sequence in sequences:
        require_sequence(sequence, length, vocabulary, classes, space)
    return sequences


def require_batch(sequences: Sequence[TokenSequence]) -> int:
    """The weight of a step's sequences, in Q14. DataError unless they are 1 to 64 and have one."""
    if not 1 <= len(sequences) <= MAXIMUM_SEQUENCES:
        raise DataError(
            f"a step cannot take {len(sequences)} sequences", f"give 1 to {MAXIMUM_SEQUENCES}"
        )
    weight = sum(int(s.weights.astype(np.int64).sum()) for s in sequences)
    if weight == 0:
        raise DataError(
            "a batch has no token with a loss",
            "give records a completion that fits the sequence length",
        )
    return weight


def require_clipping(optimizer: Optimizer, clip: Any) -> None:
    """OptionError if a norm is to be limited that an optimizer does not know."""
    if clip is not None and not optimizer.differentiates:
        raise OptionError(
            f"{optimizer.kind} computes no gradient, so its norm cannot be limited",
            "leave out --clip (clip=None)",
        )


def require_rates(
    learning_rate: Any, decay: Any, clip: Any
) -> tuple[Fraction, Fraction, Fraction | None]:
    """The numbers of a step as exact fractions. Raises OptionError."""
    rate = as_fraction(learning_rate, "learning_rate", 1)
    shrink = as_fraction(decay, "decay", 1)
    norm = None if clip is None else as_fraction(clip, "clip", MAXIMUM_CLIP)
    if norm == 0:
        raise OptionError("clip 0 leaves nothing of the gradient", "give a norm above 0, or None")
    return rate, shrink, norm
