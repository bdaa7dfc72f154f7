# SPDX-License-Identifier: Apache-2.0
"""The digest matrix: every target that runs here, emulated ones included, equals numpy. A fault is
found and named.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.adapters import adapter_kinds
from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.bundle.machine import machine_cpu_flags
from gsqc.bundle.plan import Plan
from gsqc.check.check import run_check
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import Bits, CompileOptions
from gsqc.compiler.parse_options import parse_compile_options
from gsqc.errors import TargetError
from gsqc.numerics.optim import OPTIMIZERS
from gsqc.passes.optional import pass_kinds
from gsqc.runtime import session
from gsqc.runtime.session import Session
from gsqc.targets.kernels import Kernel, plan_kernels
from gsqc.targets.llvm import bundle_code, target
from gsqc.targets.llvm.cpu import CPU_TARGETS
from tests.check.faulty import FAULT, Faulty

STEPS = 10
MISSING_QEMU = "needs apt-get install qemu-user gcc-aarch64-linux-gnu"


def targets_here() -> list[str]:
    """numpy, and what this machine or its emulator runs."""
    flags = machine_cpu_flags()
    able = [
        name
        for name, cpu in CPU_TARGETS.items()
        if (shutil.which(cpu.emulator[0]) if cpu.emulator else set(cpu.features) <= flags)
    ]
    return ["numpy", *able]


@pytest.mark.parametrize(
    "changes",
    [{}, {"bits": Bits(4, 6, 6)}, {"bits": Bits(4, 5, 5)}, {"bits": Bits(8, 8, 8), "base": "gse8"}],
    ids=["4-8-8", "4-6-6", "4-5-5", "8-8-8"],
)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.slow
def test_the_matrix(
    model_directory: Path, tmp_path: Path, changes: dict[str, Any], threads: int
) -> None:
    options = CompileOptions(tmp_path / "b.gsqc", adapter=Lora(4, 8), sequence_length=24, **changes)
    compile_model(str(model_directory), options)
    result = run_check(options.output, targets_here(), STEPS, threads=threads)
    assert result.equal, result
    assert all(len(set(digests)) == STEPS for digests in result.targets.values())


METHODS = (
    # Not all of them fit the tiny model's other linears.
    *({"adapter": f"{kind}:linears=q+o"} for kind in sorted(adapter_kinds())),
    {"adapter": "lora:train=b"},
    {"adapter": ("lora:linears=q+v", "peqa:linears=down")},
    *({"optimizer": kind} for kind in sorted(OPTIMIZERS)),
    *({"passes": (kind,)} for kind in sorted(pass_kinds())),
)


@pytest.mark.slow
@pytest.mark.skipif("aarch64" not in targets_here(), reason=MISSING_QEMU)
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_method(model_directory: Path, tmp_path: Path, method: dict[str, Any]) -> None:
    """Each kind of adapter and of optimizer, and each optional pass, as a user names it."""
    options = parse_compile_options(
        str(model_directory),
        known_models={},
        output=tmp_path / "b.gsqc",
        sequence_length=24,
        **method,
    )
    compile_model(str(model_directory), options)
    result = run_check(options.output, ["numpy", "x86-64-v2", "aarch64"], 3)
    assert result.equal, result
    assert all(len(set(digests)) == 3 for digests in result.targets.values())


@pytest.mark.slow
@pytest.mark.skipif("aarch64" not in targets_here(), reason=MISSING_QEMU)
def test_check_compiles_what_the_bundle_lacks(bundle: Path) -> None:
    """In a process of its own, as a user starts it."""
    on = "numpy,native,x86-64-v2,aarch64"
    command = [
        sys.executable,
        "-c",
        "from gsqc.cli.main import run; run()",
        "check",
        str(bundle),
        "--on",
        on,
    ]
    done = subprocess.run(
        [*command, "--steps", "2", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["equal"] is True
    assert list(result["targets"]) == on.split(",")
    assert {tuple(digests) for digests in result["targets"].values()} == {
        tuple(result["targets"]["numpy"])
    }


def test_a_missing_emulator_is_not_equality(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(target.shutil, "which", lambda _: None)
    assert main(["check", str(bundle), "--on", "numpy,aarch64", "--steps", "1"]) == 1
    assert (
        "aarch64      not run: aarch64 code needs a aarch64 machine or its emulator"
        in capsys.readouterr().out
    )


def test_a_fault_is_traced_to_its_operator(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Bundle.open(bundle).plan
    called = [kernel for kernel, _ in plan.functions["block_forward"].calls]
    faulty = next(name for name in called if plan.kernels[name].op == "silu_gate")
    load = session.load_kernels
    monkeypatch.setattr(
        session,
        "load_kernels",
        lambda b, p, t: load(b, p, t) if t.name == "numpy" else Faulty(load(b, p, t), faulty),
    )
    difference = run_check(bundle, ["numpy", "native"], 2).first_difference
    assert difference is not None
    operator = difference["operator"]
    assert (operator["kernel"], operator["op"], operator["function"]) == (
        faulty,
        "silu_gate",
        "block_forward",
    )
    assert operator["tensor"] == "result 0"
    assert int(np.ravel_multi_index(operator["index"], operator["shape"])) == 5
    assert operator["values"]["numpy"] == operator["values"]["native"] ^ FAULT


@pytest.mark.skipif("aarch64" not in targets_here(), reason=MISSING_QEMU)
@pytest.mark.parametrize(
    ("op", "step"), [("silu_gate", 1), pytest.param("adamw", 3, marks=pytest.mark.slow)]
)
def test_a_fault_of_an_emulated_target_is_traced_to_its_operator(
    op: str, step: int, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wrong constant in the aarch64 code. The decay of Adam's moment of A has nothing to decay
    before step 3, because A has no gradient while B is zero.
    """
    plan = Bundle.open(bundle).plan
    # Kernels that training calls: generation has others of the same op.
    training = ("block_forward", *(name for name in plan.functions if name.startswith("update_")))
    called = [name for f in training for name, _ in plan.functions[f].calls]
    faulty = next(n for n in called if n in plan.kernels and plan.kernels[n].op == op)
    beta = plan.kernels[faulty].attributes.get("beta1")

    def with_fault(plan: Plan) -> list[Kernel]:
        kernels = plan_kernels(plan)
        nodes = next(k for k in kernels if k.name == faulty).trace.nodes
        products = (n.attributes for n in nodes if n.operator == "mulc")
        attributes = next(a for a in products if beta in (None, a["constant"]))
        attributes["constant"] ^= FAULT << 12
        return kernels

    monkeypatch.setattr(bundle_code, "plan_kernels", with_fault)
    difference = run_check(bundle, ["numpy", "aarch64"], 3).first_difference
    assert difference is not None
    assert difference["step"] == step
    operator = difference["operator"]
    assert (operator["kernel"], operator["op"]) == (faulty, op)
    assert faulty in {name for name, _ in plan.functions[operator["function"]].calls}
    assert operator["tensor"].startswith("result")
    assert operator["values"]["numpy"] != operator["values"]["aarch64"]


def test_a_bundle_for_another_machine_says_how_to_run_it(
    model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which(CPU_TARGETS["aarch64"].compiler[0]):
        pytest.skip(MISSING_QEMU)
    options = CompileOptions(
        tmp_path / "arm.gsqc", target="aarch64", adapter=Lora(4, 8), sequence_length=9
    )
    compile_model(str(model_directory), options)
    opened = Bundle.open(options.output)
    assert "code/aarch64/gsqc-step" in opened.files
    with pytest.raises(TargetError, match="aarch64 code does not run on"):
        Session(opened)
