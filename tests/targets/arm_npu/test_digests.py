# SPDX-License-Identifier: Apache-2.0
"""The NPU from a model to equal digests: numpy, Arm's reference model, and the command streams that
Vela wrote.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsqc.adapters.lora import Lora
from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import Manifest
from gsqc.check.check import run_check
from gsqc.cli.main import main
from gsqc.compiler.compile import compile_model
from gsqc.compiler.options import CompileOptions
from gsqc.errors import BundleError, TargetError
from gsqc.runtime.session import Session
from gsqc.targets.arm_npu import npu_code
from gsqc.targets.arm_npu.accelerators import NpuOptions
from gsqc.targets.arm_npu.read_code import read_npu_program
from gsqc.targets.arm_npu.vela import VelaOutput, run_vela
from gsqc.targets.tosa import programs
from gsqc.targets.tosa.serialise import Writer
from tests.models.capture.tiny import tiny_llama

pytest.importorskip("ethosu", reason="needs pip install 'gsqc[npu]'")
NPU = "arm-npu:ethos-u85-512"
CODE = "code/arm-npu-ethos-u85-512"
ON = ["numpy", "tosa-reference", "ethos-u85-sim"]


def facts(manifest: Manifest) -> Any:
    """What the manifest says to its one target, an NPU."""
    ((name, target),) = manifest.targets.items()
    assert name.startswith("arm-npu:")
    return target.details


def npu_of(bundle: Bundle) -> Any:
    """The same of a bundle."""
    return facts(bundle.manifest)


@pytest.fixture(scope="module")
def npu_bundle(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("npu") / "tiny.gsqc"
    small = Lora(rank=4, alpha=8, linears=("q", "down"))
    npu = {"sram_kib": 2048}
    compile_model(
        str(model_directory),
        CompileOptions(output, target=NPU, adapter=small, sequence_length=8, target_options=npu),
    )
    return output


def test_the_digests_are_equal(npu_bundle: Path) -> None:
    result = run_check(npu_bundle, ON, 1)
    assert result.equal, result


def test_the_bundle_says_what_it_holds(
    npu_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.open(npu_bundle)
    for name in bundle.plan.functions:
        entry = npu_of(bundle)["programs"][name]
        assert {f"programs/{name}.tosa", f"{CODE}/{name}.cop", f"{CODE}/{name}.constants"} <= set(
            bundle.files
        )
        assert entry["cpu_operators"] == 0 < entry["npu_operators"]
        assert (
            sum(entry["estimate"]["cycles_by_kind"].values())
            == sum(entry["estimate"]["cycles_by_op"].values())
            > 0
        )
    step = npu_of(bundle)["step"]
    assert min(step["cycles"], step["cycles_with_plain_int8_matmul"]) > 0
    assert main(["inspect", str(npu_bundle), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)["targets"][NPU]
    assert record["cpu operators"] == 0
    assert record["cycles of a step, Vela's estimate"] == step["cycles"]


def test_it_does_not_train_on_a_cpu(npu_bundle: Path) -> None:
    with pytest.raises(TargetError, match="a host drives ethos-u85-512"):
        Session(npu_bundle)
    result = run_check(npu_bundle, ["numpy", "native"], 1)
    assert "a host drives ethos-u85-512" in result.not_run["native"]


def test_a_planted_error_of_the_serialiser_is_traced(
    npu_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference model runs programs whose mulr30 forgets to round."""

    def unrounded(self: Writer, x: Any) -> Any:
        return self.binary("arithmetic_right_shift", x, self.scalar(15, x))

    monkeypatch.setattr(Writer, "round15", unrounded)
    monkeypatch.setattr(programs, "program_file", lambda _: "not in the bundle")
    difference = run_check(npu_bundle, ["numpy", "tosa-reference"], 1).first_difference
    assert difference is not None
    operator = difference["operator"]
    assert operator["op"] == "program"
    assert operator["function"] in ("embed", "block_forward", "block_prepare", "prepare")
    assert operator["values"]["numpy"] != operator["values"]["tosa-reference"]


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.pop("inputs"),
        lambda e: e["inputs"].reverse(),
        lambda e: e["outputs"][0].__setitem__(4, -4),
        lambda e: e["outputs"][0].__setitem__(3, 99),
        lambda e: e["outputs"][0].__setitem__(2, "int3"),
        lambda e: e.__setitem__("region_bytes", [1]),
    ],
)
def test_a_malformed_table_is_an_error(npu_bundle: Path, change: Any) -> None:
    bundle = Bundle.open(npu_bundle)
    entry = npu_of(bundle)["programs"]["embed"]
    assert read_npu_program(bundle, NPU, "embed").inputs
    change(entry)
    with pytest.raises(BundleError, match="malformed"):
        read_npu_program(bundle, NPU, "embed")


def test_every_bundle_has_programs(bundle: Path) -> None:
    """Also one for a CPU: numpy, its own code and the reference model agree."""
    opened = Bundle.open(bundle)
    assert {f"programs/{name}.tosa" for name in opened.plan.functions} <= set(opened.files)
    assert list(opened.manifest.programs) == list(opened.plan.functions)


def test_a_model_that_cannot_fit(model_directory: Path, tmp_path: Path) -> None:
    small, target, output = (
        Lora(4, 8, ("q",)),
        "arm-npu:ethos-u85-256",
        tmp_path / "x.gsqc",
    )
    npu = {"npu_memory": "Nowhere"}
    with pytest.raises(TargetError, match="Nowhere"):
        compile_model(
            str(model_directory),
            CompileOptions(output, target, adapter=small, sequence_length=8, target_options=npu),
        )
    assert not output.exists()


@pytest.fixture
def vela_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vela compiles equal programs once in a test."""
    compiled: dict[bytes, VelaOutput] = {}

    def once(name: str, program: bytes, options: NpuOptions) -> VelaOutput:
        if program not in compiled:
            compiled[program] = run_vela(name, program, replace(options, dram_mib=None))
        return compiled[program]

    monkeypatch.setattr(npu_code, "run_vela", once)


def compile_deep(deep: Path, recompute: str, dram_mib: int | None) -> Manifest:
    """The manifest of a deep model for an NPU with this much DRAM."""
    memory = {"sram_kib": 4096} | ({} if dram_mib is None else {"dram_mib": dram_mib})
    options = CompileOptions(
        deep.with_suffix(".gsqc"),
        "arm-npu:ethos-u85-256",
        adapter=Lora(4, 8, ("q",)),
        sequence_length=32,
        recompute=recompute,
        target_options=memory,
        force=True,
    )
    compile_model(str(deep), options)
    return Bundle.open(options.output).manifest


@pytest.mark.slow
@pytest.mark.usefixtures("vela_once")
def test_blocks_are_recomputed_where_memory_is_short(model_directory: Path, tmp_path: Path) -> None:
    """The first value of --recompute that fits --dram-mib, from the one that was asked for on."""
    deep = tmp_path / "deep"
    tiny_llama(num_hidden_layers=12).save_pretrained(deep)
    none, blocks = compile_deep(deep, "none", None), compile_deep(deep, "blocks", None)
    most, least = facts(none)["dram_bytes"], facts(blocks)["dram_bytes"]
    enough = -(-least // 2**20)
    assert enough << 20 < most
    assert none.recompute == "none"
    chosen = compile_deep(deep, "none", enough)
    assert chosen.recompute in ("auto", "blocks")
    assert least <= facts(chosen)["dram_bytes"] <= enough << 20
    assert facts(chosen)["step"]["cycles"] > facts(none)["step"]["cycles"]
    with pytest.raises(
        TargetError, match=f"needs {enough} MiB of DRAM, 1 more than --dram-mib {enough - 1}"
    ) as error:
        compile_deep(deep, "none", enough - 1)
    assert f"--dram-mib {enough} is enough" in error.value.hint


@pytest.mark.slow
def test_five_steps_of_a_small_llama(tmp_path: Path) -> None:
    """2 layers, hidden 128, vocabulary 512, sequence 32, rank 8, AdamW. In a process of its own:
    see test_targets.
    """
    sizes = {"vocab_size": 512, "hidden_size": 128, "intermediate_size": 256}
    tiny_llama(**sizes).save_pretrained(tmp_path / "model")
    target, bundle = "arm-npu:ethos-u85-256", tmp_path / "small.gsqc"
    npu = {"sram_kib": 1024}
    options = CompileOptions(
        bundle, target=target, adapter=Lora(8, 16), sequence_length=32, target_options=npu
    )
    compile_model(str(tmp_path / "model"), options)
    entries = npu_of(Bundle.open(bundle))["programs"]
    assert not any(entry["cpu_operators"] for entry in entries.values())
    on = "numpy,x86-64,tosa-reference,ethos-u85-sim"
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
        [*command, "--steps", "5", "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    digests = json.loads(done.stdout)["targets"]
    assert list(digests) == on.split(",")
    assert len({tuple(d) for d in digests.values()}) == 1
    assert len(set(digests["numpy"])) == 5
    assert np.all([len(d) == 64 for d in digests["numpy"]])
