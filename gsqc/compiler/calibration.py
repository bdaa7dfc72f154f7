# SPDX-License-Identifier: Apache-2.0
"""Calibration: a text says which columns of activations are strong, and those are shifted down.

The bundle holds the shifts, and the step reads them as it reads its weights (`linear`'s `balance`).
Any text will do: a shift changes by one only where E[x²] changes by a factor of 16.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.bundle.manifest import CalibrationPart
from gsqc.compiler.options import CompileOptions
from gsqc.compiler.site_powers import shifts_of, site_powers
from gsqc.data.tokenizer import Tokenizer
from gsqc.errors import GsqcError, OptionError
from gsqc.files.reading import read_file
from gsqc.models.capture import CapturedModel
from gsqc.passes.outline import Outline
from gsqc.passes.sites import BALANCE

Array = npt.NDArray[Any]
Say = Callable[[str], None]
OWN_TEXT = Path(__file__).with_name("calibration.txt")
OWN_NAME = "gsqc's own text"
BALANCED_BITS = 6
"""Activations of so many bits or fewer gain by it (docs/performance.md)."""
NONE = Path("none")
"""Of `--calibrate`: no text at all."""
RECORD_TOKENS = 128
LEAST_TOKENS, MOST_TOKENS = 256, 64 * RECORD_TOKENS
MOST_CHARACTERS = 32 * MOST_TOKENS
"""Of a text that are read: no tokenizer makes fewer tokens of it than are wanted."""
MOST_BYTES = 64 << 20
_LONGER = "give a text of a few pages"


@dataclass(frozen=True)
class CalibrationText:
    """A text, what it is called, and its sha256."""

    name: str
    text: str
    sha256: str


def is_balanced(options: CompileOptions, tokenizer_json: str | None) -> bool:
    """Whether a model with this tokenizer is calibrated."""
    return _is_wanted(options) and tokenizer_json is not None


def _is_wanted(options: CompileOptions) -> bool:
    if options.calibrate is None:
        return options.bits.a <= BALANCED_BITS
    return options.calibrate != NONE


def calibration_text(options: CompileOptions) -> CalibrationText | None:
    """The text of `--calibrate`, or gsqc's own where the bits gain by it. None: it is not wanted.

    Raises OptionError for a file that cannot be read, or that is no text.
    """
    if not _is_wanted(options):
        return None
    file = options.calibrate
    path = OWN_TEXT if file is None else Path(file)
    try:
        content = read_file(path, most_bytes=MOST_BYTES)
        text = content.decode("utf-8")
    except OSError as error:
        raise OptionError(f"--calibrate {path}: {error.strerror or error}", _LONGER) from None
    except UnicodeDecodeError:
        raise OptionError(f"--calibrate {path} is not UTF-8", "give a plain text") from None
    if not text.strip():
        raise OptionError(f"--calibrate {path} is empty", _LONGER)
    name = OWN_NAME if file is None else path.name
    return CalibrationText(name, text, hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Calibration:
    """The tokens that a model is calibrated with, int64 [records, tokens], and what the bundle says
    of them.
    """

    part: CalibrationPart
    records: Array

    def balance(self, outline: Outline, captured: CapturedModel, progress: Say) -> dict[str, Array]:
        """The shifts of each site of each layer, by the names of their tensors in the bundle."""
        constants = captured.constants
        powers = site_powers(outline, captured.weights, constants, self.records, progress)
        return {f"{name}.{BALANCE}": shifts_of(*power) for name, power in powers.items()}


def _records(tokenizer: Tokenizer, text: str, length: int) -> Array:
    """The tokens of a text in records of a length, each begun as the model's texts begin. Raises
    OptionError for a text that is too short.
    """
    begin = list(tokenizer.beginning)[: length - 1]
    size = length - len(begin)
    tokens = tokenizer.encode(text[:MOST_CHARACTERS])
    if len(tokens) < LEAST_TOKENS:
        raise OptionError(f"it has {len(tokens)} tokens, and {LEAST_TOKENS} are the least", _LONGER)
    count = min(len(tokens) // size, MOST_TOKENS // length)
    wanted = np.array(tokens[: count * size], np.int64).reshape(count, size)
    return np.concatenate([np.tile(np.array(begin, np.int64), (count, 1)), wanted], 1)


def prepare_calibration(
    captured: CapturedModel, options: CompileOptions, text: CalibrationText | None, note: Say
) -> Calibration | None:
    """The tokens of the text, or None if there is no text or no tokenizer to read it with.

    `note` is told of a tokenizer that gsqc's own text cannot be read with. With a file of the
    user's that is an OptionError, and so is a text that is too short.
    """
    if text is None:
        return None
    try:
        if captured.tokenizer_json is None:
            raise OptionError("the model has no tokenizer", "leave --calibrate out")
        metadata = {**captured.metadata, "vocabulary": captured.config.vocabulary}
        tokenizer = Tokenizer.of_model(captured.tokenizer_json, metadata)
        length = min(RECORD_TOKENS, options.sequence_length)
        records = _records(tokenizer, text.text, length)
    except GsqcError as error:
        if options.calibrate is not None:
            raise OptionError(f"--calibrate {options.calibrate}: {error}", error.hint) from None
        note(
            f"not calibrated: {error}. So operands of {options.bits.a} bits lose more than they "
            "would have to"
        )
        return None
    return Calibration(CalibrationPart(text.name, text.sha256, records.size), records)
