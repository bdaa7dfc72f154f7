# SPDX-License-Identifier: Apache-2.0
"""Random programs of the operators in use, through Vela for all five sizes: the interpreter equals
numpy.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.targets.arm_npu.builder import VelaBuilder, serialise_for_vela
from tests.targets.arm_npu.compiling import SIZES, assert_same, needs_npu, run_compiled
from tests.targets.arm_npu.u85.test_operations import given_inputs
from tests.targets.tosa.random_programs import Choice, follow, random_inputs

pytestmark = needs_npu


def _check(seed: int, choices: list[Choice]) -> None:
    arrays = random_inputs(seed)
    numpy, recorded = NumpyBuilder(), VelaBuilder()
    expected = [t.data for t in follow(numpy, [numpy.tensor(a) for a in arrays], choices)]
    inputs = [recorded.input(a.shape, "int32") for a in arrays]
    recorded.output(*follow(recorded, inputs, choices))
    program = recorded.trace
    assert_same(
        expected,
        run_compiled(
            serialise_for_vela(program), given_inputs(program, arrays), SIZES[seed % len(SIZES)]
        ),
    )


_numbers = st.integers(0, 1000)
_choice = st.tuples(_numbers, _numbers, _numbers, _numbers)
_slow = [HealthCheck.too_slow]


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=_slow)
@given(st.integers(0, 2**20), st.lists(_choice, min_size=1, max_size=12))
def test_random_programs(seed: int, choices: list[Choice]) -> None:
    _check(seed, choices)


@pytest.mark.slow
@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=_slow)
@given(st.integers(2**20, 2**30), st.lists(_choice, min_size=5, max_size=25))
def test_random_programs_500(seed: int, choices: list[Choice]) -> None:
    _check(seed, choices)
