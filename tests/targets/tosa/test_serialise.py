# SPDX-License-Identifier: Apache-2.0
"""The serialiser: Arm's reference model computes what numpy does, for every op and for random
programs.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gsqc.errors import TargetError
from gsqc.numerics.formats import flatten, to_spec
from gsqc.numerics.operators.builder import where
from gsqc.numerics.operators.numpy import NumpyBuilder
from gsqc.numerics.operators.trace import TraceBuilder
from gsqc.numerics.ops.registry import OPS, Case, evaluate, trace
from gsqc.targets.tosa.reference_model import run_reference_model
from gsqc.targets.tosa.serialise import Writer, serialise
from gsqc.targets.tosa.tosa_file import Tensor
from tests.numerics.ops.test_exact import PARAMETERS
from tests.targets.tosa.random_programs import Choice, follow, random_inputs

pytest.importorskip("tosa_serializer", reason="needs pip install 'gsqc[npu]'")


def _assert_equal(expected: list[np.ndarray], got: list[np.ndarray]) -> None:
    assert len(expected) == len(got)
    for e, g in zip(expected, got, strict=True):
        assert (g.dtype, g.shape) == (e.dtype, e.shape)
        np.testing.assert_array_equal(g, e)


def _run_case(name: str, case: Case) -> None:
    program, _ = trace(OPS[name], [to_spec(v) for v in case.values], case.attributes)
    got = run_reference_model(serialise(program), flatten(tuple(case.values)))
    _assert_equal(flatten(evaluate(OPS[name], case.values, case.attributes)), got)


@pytest.mark.parametrize(("name", "case"), PARAMETERS)
def test_every_case_equals_numpy(name: str, case: Case) -> None:
    _run_case(name, case)


def _check_random(seed: int, choices: list[Choice]) -> None:
    arrays = random_inputs(seed)
    numpy, recorded = NumpyBuilder(), TraceBuilder()
    expected = [t.data for t in follow(numpy, [numpy.tensor(a) for a in arrays], choices)]
    inputs = [recorded.input(a.shape, "int32") for a in arrays]
    recorded.output(*follow(recorded, inputs, choices))
    _assert_equal(expected, run_reference_model(serialise(recorded.trace), arrays))


_numbers = st.integers(0, 1000)
_choices = st.lists(st.tuples(_numbers, _numbers, _numbers, _numbers), min_size=1, max_size=12)
_slow = [HealthCheck.too_slow]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=_slow)
@given(st.integers(0, 2**20), _choices)
def test_random_programs(seed: int, choices: list[Choice]) -> None:
    _check_random(seed, choices)


@pytest.mark.slow
@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=_slow)
@given(
    st.integers(2**20, 2**30),
    st.lists(st.tuples(_numbers, _numbers, _numbers, _numbers), min_size=5, max_size=25),
)
def test_random_programs_500(seed: int, choices: list[Choice]) -> None:
    _check_random(seed, choices)


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("mulr15", lambda self, x, y: self.binary("mul", self.halves(x)[0], y)),
        ("round15", lambda self, x: self.binary("arithmetic_right_shift", x, self.scalar(15, x))),
        (
            "halves",
            lambda self, x: (
                self.round15(x),
                self.binary("bitwise_and", x, self.scalar(0x7FFF, x)),
            ),
        ),
    ],
)
def test_a_planted_error_in_the_serialiser_is_found(
    method: str, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writer, method, wrong)
    failed = 0
    for parameter in PARAMETERS:
        try:
            _run_case(*parameter.values)
        except (AssertionError, TargetError):
            failed += 1
    assert failed > 10


def test_the_same_trace_gives_the_same_bytes() -> None:
    builder = TraceBuilder()
    x = builder.input((3, 5), "int32")
    builder.output(where(x.greater(0), x, 7).clamp(-9, 9))
    assert serialise(builder.trace) == serialise(builder.trace)


@pytest.mark.parametrize(("rows", "columns", "moved"), [(4, 24, 4), (24, 4, 4), (7, 7, 7)])
def test_the_smaller_operand_of_a_matmul_is_transposed(rows: int, columns: int, moved: int) -> None:
    builder, turned = TraceBuilder(), []

    class Watched(Writer):
        def turned(self, x: Tensor) -> Tensor:
            turned.append(x)
            return super().turned(x)

    builder.output(
        builder.matmul(*(builder.input((2, n, 32), "int16") for n in (rows, columns)), shift=5)
    )
    Watched(builder.trace).write()
    assert [x[1:] for x in turned if x[2] == "int16"] == [((2, moved, 32), "int16")]


def test_results_that_are_inputs_constants_or_given_twice() -> None:
    builder = TraceBuilder()
    x = builder.input((2, 2), "int32")
    total = x.reduce_sum(0)
    builder.output(x, builder.const(5, 2), total, total)
    got = run_reference_model(
        serialise(builder.trace), [np.arange(4, dtype=np.int32).reshape(2, 2)]
    )
    assert [g.tolist() for g in got] == [[[0, 1], [2, 3]], [[5]], [[2, 4]], [[2, 4]]]


def test_an_undefined_result_is_an_error_that_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    builder = TraceBuilder()
    x = builder.input((2,), "int32")
    builder.output(x.mulc(5))
    with pytest.raises(TargetError, match=r"UNPREDICTABLE: .*value should stay within"):
        run_reference_model(serialise(builder.trace), [np.array([2**30, 0], np.int32)])
    assert "".join(capfd.readouterr()) == ""
