# SPDX-License-Identifier: Apache-2.0
"""What Vela 5.2.0 compiles to wrong code, and that the serialiser's form of it is right.

`test_vela_is_still_wrong` fails once a version of Vela is right: then
`gsqc/targets/arm_npu/vela_faults.py` can go.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gsqc.errors import CommandStreamError
from gsqc.numerics.operators.builder import Tensor, where
from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.targets.arm_npu.builder import VelaBuilder, serialise_for_vela
from gsqc.targets.arm_npu.vela_faults import VelaFaults
from tests.targets.arm_npu.compiling import assert_same, needs_npu, run_compiled

pytestmark = needs_npu
SHAPE = (24, 32)


def _select_and_reshape(x: Tensor, y: Tensor) -> list[Tensor]:
    return [where(x.greater(y), x, y), x.reshape(48, 16)]


def _select_of_a_view(x: Tensor, y: Tensor) -> list[Tensor]:
    other, view = x.reshape(48, 16) + 1, x.reshape(12, 64)
    return [other, where((y + 1).reshape(12, 64).greater(view), view, 219)]


def _largest_of_a_slice(x: Tensor, y: Tensor) -> list[Tensor]:
    return [x.slice((2, 5), (1, 15)).reduce_max(1)]


def _largest_of_a_reshaped_slice(x: Tensor, y: Tensor) -> list[Tensor]:
    return [x.slice((2, 5), (1, 15)).reshape(1, 1, 15).reduce_max(2)]


def _gathered_and_transposed(x: Tensor, y: Tensor) -> list[Tensor]:
    rows = x.builder.gather(x, y.slice((0, 0), (1, 9)).reshape(9).clamp(0, 23))
    return [rows, rows.transpose(1, 0)]


def _rotated_and_transposed(x: Tensor, y: Tensor) -> list[Tensor]:
    rotated = x.rotate()
    return [rotated, rotated.transpose(1, 0)]


def _largest_and_transposed(x: Tensor, y: Tensor) -> list[Tensor]:
    largest = x.reshape(3, 8, 32).reduce_max(2)
    return [largest, largest.transpose(1, 0, 2)]


FORMS = (
    _select_and_reshape,
    _select_of_a_view,
    _largest_of_a_slice,
    _largest_of_a_reshaped_slice,
    _gathered_and_transposed,
    _rotated_and_transposed,
    _largest_and_transposed,
)
Form = Callable[[Tensor, Tensor], list[Tensor]]


def _check(form: Form) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-100, 100, SHAPE).astype(np.int32) for _ in range(2)]
    numpy, recorded = NumpyBuilder(), VelaBuilder()
    expected = [t.data for t in form(*(numpy.tensor(a) for a in arrays))]
    inputs = [recorded.input(SHAPE, "int32") for _ in arrays]
    recorded.output(*form(*inputs))
    used = {a.id for node in recorded.trace.live_nodes() for a in node.args}
    given = [a for a, t in zip(arrays, inputs, strict=True) if t.data.id in used]
    assert_same(expected, run_compiled(serialise_for_vela(recorded.trace), given, "ethos-u85-256"))


@pytest.mark.parametrize("form", FORMS)
def test_the_serialised_form_is_right(form: Form) -> None:
    _check(form)


@pytest.mark.parametrize("form", FORMS)
def test_vela_is_still_wrong(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("masks", "guards", "copies"):
        monkeypatch.setattr(VelaFaults, method, lambda self, node: False)
    with pytest.raises((AssertionError, CommandStreamError)):
        _check(form)
