# SPDX-License-Identifier: Apache-2.0
"""The real model on the NPU: SmolLM2-135M-Instruct at 64 tokens, one step on a sentence."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import Plan
from gsqc.check.sequences import random_sequences
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.data.tokenizer import Tokenizer
from gsqc.runtime.session import Session
from gsqc.targets.arm_npu import interpret
from gsqc.targets.arm_npu.interpret import interpreted_programs
from gsqc.targets.numpy.programs import numpy_programs
from gsqc.targets.program_kernels import RunProgram
from gsqc.targets.tosa.target import TosaReference

pytestmark = pytest.mark.slow
pytest.importorskip("ethosu", reason="needs pip install 'gsqc[npu]'")
Arrays = list[npt.NDArray[np.int32]]
TEXT = "Liberty, n. One of Imagination's most precious possessions."


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    output = tmp_path_factory.mktemp("smollm2") / "smol.gsqc"
    npu = {"sram_kib": 4096}
    target = "arm-npu:ethos-u85-512"
    compile_model(
        "smollm2-135m",
        CompileOptions(output, target, base="gguf", sequence_length=64, target_options=npu),
    )
    return Bundle.open(output)


def test_all_of_it_runs_on_the_npu(bundle: Bundle) -> None:
    npu = bundle.manifest.targets["arm-npu:ethos-u85-512"].details
    assert npu is not None
    assert set(npu["programs"]) == set(bundle.plan.functions)
    assert all(
        entry["cpu_operators"] == 0 < entry["npu_operators"] for entry in npu["programs"].values()
    )
    step = npu["step"]
    assert step["cycles"] == sum(step["cycles_by_kind"].values())
    assert step["cycles"] < 2 * step["cycles_with_plain_int8_matmul"]


def comparing_programs(bundle: Bundle, plan: Plan, compared: Counter[str]) -> RunProgram:
    """numpy's programs. One call of each is compared with the reference model and the interpreter.

    It is the second call, or the first if there is no other. `compared` counts by program.
    """
    numpy, calls = numpy_programs(plan), Counter[str]()
    others = (TosaReference().run_programs(bundle, plan), interpreted_programs(bundle, plan))
    step = Counter(name for s in ("prepare", "train") for name, _ in plan.schedules[s].calls)

    def run(name: str, inputs: Arrays) -> Arrays:
        expected = list(numpy(name, inputs))
        calls[name] += 1
        if calls[name] == min(2, step[name]):
            for other in others:
                for e, g in zip(expected, other(name, inputs), strict=True):
                    np.testing.assert_array_equal(
                        np.asarray(g).reshape(-1), e.reshape(-1), err_msg=name
                    )
                compared[name] += 1
        return expected

    return run


def test_a_step_is_equal_program_by_program(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: Counter[str] = Counter()
    monkeypatch.setattr(
        interpret,
        "interpreted_programs",
        lambda bundle, plan: comparing_programs(bundle, plan, compared),
    )
    session = Session(bundle.path, target="ethos-u85-sim")
    sequence = random_sequences(bundle, 1, 0)[0]
    ids = Tokenizer(bundle).encode(TEXT)
    sequence.tokens[: len(ids)], sequence.labels[: len(ids) - 1] = ids, ids[1:]
    result = session.step([sequence], Fraction(1, 1000))
    used = {
        name
        for s in ("prepare", "train")
        for name, _ in bundle.plan.schedules[s].calls
        if name != "@copy"
    }
    assert compared == dict.fromkeys(used, 2)
    assert {"block_forward", "block_backward", "head_backward"} <= used
    assert (
        result.digest
        == Session(bundle.path, target="numpy").step([sequence], Fraction(1, 1000)).digest
    )
