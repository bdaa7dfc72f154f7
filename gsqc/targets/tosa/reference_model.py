# SPDX-License-Identifier: Apache-2.0
"""Arm's TOSA reference model, which runs a serialised program as the specification says."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gsqc.errors import TargetError

Array = npt.NDArray[Any]
_REPORT = "this is an error in gsqc: please report it"


@contextmanager
def _captured_output() -> Iterator[BinaryIO]:
    """A file that takes what the model prints, which would else stand in the output of `--json`."""
    # What Python holds back must go out before its descriptors point elsewhere.
    sys.stdout.flush()
    sys.stderr.flush()
    # The model is C++ and knows nothing of sys.stdout, so the file descriptors themselves change.
    kept = {number: os.dup(number) for number in (1, 2)}
    with tempfile.TemporaryFile() as file:
        try:
            for number in kept:
                os.dup2(file.fileno(), number)
            yield file
        finally:
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)


def _reason(printed: bytes) -> str:
    """The line that says what failed."""
    lines = printed.decode(errors="replace").splitlines()
    return next(
        (line for line in lines if "failure" in line or "ERROR" in line), "it does not say why"
    )


def run_reference_model(program: bytes, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a TOSA program, checked against the limits of level 8K.

    TargetError if tosa-tools is not installed, or if the model finds the program invalid or its
    result undefined.
    """
    try:
        import tosa_reference_model as model
    except ImportError:
        raise TargetError("tosa-tools is not installed", "pip install 'gsqc[npu]'") from None
    with _captured_output() as printed:
        try:
            # The level bounds ranks and sizes, so a program that passes runs on any TOSA device.
            outputs, status = model.run(
                program, [np.ascontiguousarray(a) for a in inputs], tosa_level="EIGHTK"
            )
        except ValueError as error:
            raise TargetError(
                f"the TOSA reference model refuses the program ({error})", _REPORT
            ) from None
        # The status says that a result is undefined. Only what the model prints says why.
        printed.seek(0)
        text = printed.read()
    if status != model.GraphStatus.TOSA_VALID:
        raise TargetError(
            f"the TOSA reference model finds the program {status.name}: {_reason(text)}", _REPORT
        )
    return list(outputs)
