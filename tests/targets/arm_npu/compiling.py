# SPDX-License-Identifier: Apache-2.0
"""Programs through Vela for tests: in this process, quietly, with the settings of a Vela that was
given none.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gsqc.targets.arm_npu.u85.run import Compiled, read_compiled, run_command_stream

SIZES = tuple(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048))
Array = npt.NDArray[Any]
needs_npu = pytest.mark.skipif(
    not all(
        importlib.util.find_spec(name)
        for name in ("ethosu", "tosa_serializer", "tosa_reference_model")
    ),
    reason="needs pip install 'gsqc[npu]'",
)


@lru_cache(maxsize=256)
def compile_with_vela(program: bytes, accelerator: str) -> Compiled:
    """What Vela makes of a TOSA program. An AssertionError has Vela's text if it refuses."""
    from ethosu.vela import vela

    with (
        tempfile.TemporaryDirectory() as folder,
        redirect_stdout(io.StringIO()) as text,
        redirect_stderr(text),
    ):
        path = Path(folder) / "program.tosa"
        path.write_bytes(program)
        options = [
            "--accelerator-config",
            accelerator,
            "--output-dir",
            folder,
            "--output-format",
            "raw",
        ]
        try:
            vela.main([str(path), *options])
        except (Exception, SystemExit) as error:
            raise AssertionError(f"Vela: {error!r}\n{text.getvalue()}") from error
        return read_compiled(Path(folder) / "program_vela.npz")


def run_compiled(program: bytes, inputs: Sequence[Array], accelerator: str) -> list[Array]:
    """The outputs of the command stream that Vela writes for a program."""
    return run_command_stream(compile_with_vela(program, accelerator), inputs)


def assert_same(expected: Sequence[Array], got: Sequence[Array]) -> None:
    """Equal numbers. Vela's shapes have six axes, and its booleans are bytes."""
    assert len(expected) == len(got)
    for e, g in zip(expected, got, strict=True):
        np.testing.assert_array_equal(g.astype(np.int64).reshape(e.shape), e.astype(np.int64))
