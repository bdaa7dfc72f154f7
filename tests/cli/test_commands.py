# SPDX-License-Identifier: Apache-2.0
"""Commands that have no test file of their own: what they print, and their exit codes."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest

import gsqc.check.steppers
import gsqc.cli.evaluate
import gsqc.cli.generate
from gsqc.bundle.machine import machine_cpu_flags
from gsqc.bundle.manifest import CalibrationPart, Manifest, TargetPart
from gsqc.compiler.options import CompileOptions
from gsqc.compiler.parse_options import parse_compile_options
from gsqc.numerics.optim.sgd import Sgd
from gsqc.version import __version__
from tests.cli.run_command import Capture, run_json, run_text
from tests.runtime.small_bundle import FakeSession, manifest, write_bundle


@pytest.fixture(autouse=True)
def _fake_session(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gsqc.cli.evaluate, gsqc.cli.generate, gsqc.check.steppers):
        monkeypatch.setattr(module, "Session", FakeSession)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "small.gsqc")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text('{"prompt": "ab", "completion": "xyz"}\n' * 3)
    return path


def test_eval(capsys: Capture, bundle: Path, data: Path) -> None:
    assert run_json(capsys, "eval", bundle, "--data", data) == (
        0,
        [{"loss": 2.25, "perplexity": 2.0**2.25, "tokens": 12, "notes": []}],
    )
    assert run_json(capsys, "eval", bundle, "--data", data, "--limit", 2)[1][0]["tokens"] == 8
    code, out, err = run_text(capsys, "eval", bundle, "--data", data)
    assert (code, err) == (0, "")
    assert "loss 2.2500" in out


def test_eval_of_a_run_without_a_state_is_no_eval_of_the_base(
    capsys: Capture, bundle: Path, data: Path, tmp_path: Path
) -> None:
    code, out, err = run_text(capsys, "eval", bundle, "--data", data, "--run", tmp_path / "absent")
    assert (code, out) == (2, "")
    assert "no saved state" in err


def test_generate(capsys: Capture, bundle: Path) -> None:
    code, (line,) = run_json(capsys, "generate", bundle, "--prompt", "[b]é", "--max-tokens", 5)
    assert code == 0
    assert line["text"] == "[b]é"
    assert len(line["tokens"]) == 5
    assert (
        run_text(capsys, "generate", bundle, "--prompt", "[b]é", "--max-tokens", 5)[1] == "[b]é\n"
    )


def test_check(capsys: Capture, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, (line,) = run_json(capsys, "check", bundle, "--on", "numpy, native", "--steps", 2)
    assert code == 0
    assert line["equal"] is True
    assert line["first_difference"] is None
    assert line["targets"]["numpy"] == line["targets"]["native"]
    both = ("check", bundle, "--on", "numpy,native")
    assert "equal after each of 3 steps" in run_text(capsys, *both)[1]
    monkeypatch.setattr(FakeSession, "wrong_target", "native")
    code, (line,) = run_json(capsys, *both)
    assert code == 1
    assert line["equal"] is False
    assert set(line["first_difference"]) == {"step", "tensor", "index", "values", "operator"}
    code, out, _ = run_text(capsys, *both)
    assert code == 1
    assert "step 2: layers.0.q_a[5]" in out


def test_check_of_one_target_claims_nothing(capsys: Capture, bundle: Path) -> None:
    code, (line,) = run_json(capsys, "check", bundle, "--on", "numpy")
    assert (code, line["equal"], line["passed"]) == (1, None, False)
    assert "nothing to compare with" in run_text(capsys, "check", bundle)[1]


def test_inspect(capsys: Capture, bundle: Path, tmp_path: Path) -> None:
    code, (line,) = run_json(capsys, "inspect", bundle)
    assert code == 0
    assert line["operators"] == {"add": 3, "matmul": 2}
    assert line["weights_bytes"] == 200
    assert line["targets"]["numpy"]["code_bytes"] == 30
    assert line["adapter"]["linears"] == ["q"]
    _, out, _ = run_text(capsys, "inspect", bundle)
    assert "planned peak bytes" in out
    strange = write_bundle(
        tmp_path / "strange.gsqc",
        base="\x1b[2J[bold]",
        targets={"\x1b[2J[bold]strange": TargetPart("x-y")},
    )
    code, out, _ = run_text(capsys, "inspect", strange)
    assert code == 0
    assert "\x1b" not in out
    assert "[bold]" in out


def test_inspect_says_how_a_bundle_was_calibrated(
    capsys: Capture, bundle: Path, tmp_path: Path
) -> None:
    assert run_json(capsys, "inspect", bundle)[1][0]["calibration"] is None
    assert "none" in run_text(capsys, "inspect", bundle)[1]
    part = CalibrationPart("text.txt", "ab" * 32, 8192)
    calibrated = write_bundle(tmp_path / "calibrated.gsqc", calibration=part)
    shown = run_json(capsys, "inspect", calibrated)[1][0]["calibration"]
    assert shown == {"name": "text.txt", "sha256": "ab" * 32, "tokens": 8192}
    assert "by text.txt, 8,192 tokens" in run_text(capsys, "inspect", calibrated)[1]


def test_inspect_of_a_manifest_that_lacks_fields(capsys: Capture, bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["operators"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    code, _, err = run_text(capsys, "inspect", bundle)
    assert code == 2
    assert "operators" in err


def test_targets(capsys: Capture) -> None:
    _, lines = run_json(capsys, "targets", "--ops")
    assert {"numpy"} <= {line["target"] for line in lines if "target" in line}
    assert "softmax" in {line["op"] for line in lines if "op" in line}
    assert "numpy" in run_text(capsys, "targets")[1]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, CompileOptions]]:
    """What the compiler is called with. The real one takes seconds to import."""
    seen: list[tuple[str, CompileOptions]] = []

    def compile_model(model: str, options: CompileOptions, *_: object) -> Manifest:
        seen.append((model, options))
        name = "m.0.w.weight"
        made = replace(manifest(), base_kinds={name: "nf4"}, base_losses={name: 91_000})
        calibration = CalibrationPart("a.txt", "cd", 300) if options.calibrate else None
        return replace(made, calibration=calibration)

    compiler = SimpleNamespace(compile_model=compile_model)
    monkeypatch.setitem(sys.modules, "gsqc.compiler.compile", compiler)
    return seen


def test_compile_passes_its_options_on(
    capsys: Capture, tmp_path: Path, compiled: list[tuple[str, CompileOptions]]
) -> None:
    output = tmp_path / "a.gsqc"
    given = {
        "bits": "4-7-6:w8",
        "base": "nf4",
        "adapter": "lora:rank=4,alpha=8,linears=q+v",
        "optimizer": "sgd",
        "seq": 64,
        "batch": 3,
        "seed": 5,
        "target": "numpy",
    }
    arguments = [*(f"--{name}={value}" for name, value in given.items()), "--force"]
    code, (line,) = run_json(capsys, "compile", "dir", *arguments, "-o", output)
    assert (code, line["bundle"]) == (0, str(output))
    assert line["base_losses"] == {"m.0.w.weight": 91_000}
    assert line["calibration"] is None
    (model, options) = compiled[0]
    assert model == "dir"
    assert (str(options.bits), options.base, options.optimizer) == ("4-7-6:w8", "nf4", Sgd())
    assert (options.sequence_length, options.batch, options.seed, options.force) == (64, 3, 5, True)
    assert options.adapter[0].linears == ("q", "v")
    assert options.calibrate is None


def test_compile_takes_several_adapters_from_all_three_places(
    capsys: Capture, tmp_path: Path, compiled: list[tuple[str, CompileOptions]]
) -> None:
    texts = ["lora:rank=4,alpha=8,linears=q+v", "paca:rank=4,alpha=8,linears=up+down"]
    output, file = tmp_path / "a.gsqc", tmp_path / "c.toml"
    flags = [part for text in texts for part in ("--adapter", text)]
    assert run_text(capsys, "compile", "dir", *flags, "-o", output)[0] == 0
    file.write_text(f'[compile]\nmodel = "dir"\noutput = "{output}"\nadapter = {texts}\n')
    assert run_text(capsys, "compile", "--config", file)[0] == 0
    file.write_text(f'[compile]\nmodel = "dir"\noutput = "{output}"\nadapter = "{texts[0]}"\n')
    assert run_text(capsys, "compile", "--config", file)[0] == 0
    given = parse_compile_options("m", known_models={}, output=output, adapter=texts)
    found = [list(map(str, o.adapter)) for o in (*(o for _, o in compiled), given)]
    assert found == [texts, texts, texts[:1], texts]


def test_compile_refuses_two_adapters_of_one_linear(capsys: Capture, tmp_path: Path) -> None:
    for flags, says in (
        (("lora:linears=q+v", "peqa:linears=k+v"), "are both on v"),
        (("lora", "peqa"), "both name no linears"),
    ):
        given = [part for text in flags for part in ("--adapter", text)]
        code, _, err = run_text(capsys, "compile", "dir", *given, "-o", tmp_path / "a.gsqc")
        assert code == 2 and says in err and "give each linear one adapter" in err


def test_compile_says_that_it_calibrated(
    capsys: Capture, tmp_path: Path, compiled: list[tuple[str, CompileOptions]]
) -> None:
    arguments = ("compile", "dir", "--calibrate", tmp_path / "a.txt", "-o", tmp_path / "a.gsqc")
    code, (line,) = run_json(capsys, *arguments)
    assert (code, compiled[0][1].calibrate) == (0, tmp_path / "a.txt")
    assert line["calibration"] == {"name": "a.txt", "sha256": "cd", "tokens": 300}
    assert "calibrated by a.txt, 300 tokens" in run_text(capsys, *arguments)[1]


def test_compile_tells_every_problem(capsys: Capture) -> None:
    code, _, err = run_text(capsys, "compile", "x", "--bits", "9-8-8", "--seq", "0", "-o", "x.gsqc")
    assert code == 2
    assert "--bits 9-8-8" in err
    assert "--seq 0" in err


def test_info_says_what_a_bug_report_needs(capsys: Capture) -> None:
    code, (line,) = run_json(capsys, "info")
    assert (code, line["gsqc"], line["python"]) == (0, __version__, platform.python_version())
    assert line["packages"]["numpy"] == numpy.__version__
    assert line["targets"]["numpy"] is True
    assert line["usable_cores"] >= 1 and line["memory_bytes"] > 1 << 28
    assert set(line["cpu_features"]) == machine_cpu_flags()
    text = run_text(capsys, "info")[1]
    assert line["processor"].split()[0] in text and numpy.__version__ in text
