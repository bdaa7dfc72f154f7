# SPDX-License-Identifier: Apache-2.0
"""The commands as functions, and what `import gsqc` and the runtime load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gsqc
import gsqc.training.open_run
from gsqc.errors import OptionError
from gsqc.training.notebook import in_notebook
from tests.runtime.small_bundle import FakeSession, write_bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gsqc.training.open_run, "Session", FakeSession)
    write_bundle(tmp_path / "small.gsqc")
    (tmp_path / "notes.jsonl").write_text('{"prompt": "ab", "completion": "cd"}\n' * 3)
    return tmp_path


def train(place: Path, **options: Any) -> gsqc.TrainResult:
    chosen = {
        "run": place / "run",
        "steps": 8,
        "lr": 1e-3,
        "validation": place / "notes.jsonl",
        **options,
    }
    return gsqc.train(place / "small.gsqc", str(place / "notes.jsonl"), **chosen)


def run_python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_nothing_else() -> None:
    heavy = "('numpy', 'torch', 'tvm', 'tvm_ffi', 'typer', 'rich', 'matplotlib')"
    run_python(
        f"import sys, gsqc; found = set({heavy}) & set(sys.modules);"
        "assert not found, found; dir(gsqc)"
    )


def test_the_runtime_imports_without_torch_and_compiler() -> None:
    """All of it, where neither is installed, and matplotlib and IPython are not either."""
    run_python(
        "import sys, pkgutil, importlib;"
        "absent = ('torch', 'tvm', 'transformers', 'gguf', 'peft', 'matplotlib', 'IPython');"
        "sys.modules |= dict.fromkeys(absent);"
        "import gsqc, gsqc.api; gsqc.Session; gsqc.train;"
        "parts = ('numerics', 'bundle', 'data', 'runtime', 'training', 'check');"
        "packages = [importlib.import_module(f'gsqc.{part}') for part in parts];"
        "walk = [pkgutil.walk_packages(p.__path__, p.__name__ + '.') for p in packages];"
        "names = [m.name for modules in walk for m in modules]; assert len(names) > 60;"
        "[importlib.import_module(n) for n in names]"
    )


def test_training_does_not_load_torch() -> None:
    run_python("import sys, gsqc; gsqc.Session; assert not {'tvm_ffi', 'torch'} & set(sys.modules)")


def test_train_tells_and_returns(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: dict[str, list[int]] = {"step": [], "evaluate": [], "save": []}
    result = train(
        place,
        eval_every=4,
        clip=1,
        on_step=lambda entry: told["step"].append(entry["step"]),
        on_evaluate=lambda entry: told["evaluate"].append(entry["step"]),
        on_save=told["save"].append,
    )
    assert told == {"step": list(range(1, 9)), "evaluate": [0, 4, 8], "save": [4, 8]}
    assert "step    8  loss 0.5000  held-out" in capsys.readouterr().out
    assert (result.end, result.step, len(result.losses)) == ("done", 8, 8)
    assert result.best is not None
    assert result.log == [
        json.loads(line) for line in (place / "run" / "log.jsonl").read_text().splitlines()
    ]
    assert "log" not in repr(result)
    again = train(place, eval_every=4, clip=1, progress=False)
    assert (again.digest, again.step) == (result.digest, 8)
    assert capsys.readouterr().out == ""


def test_a_callback_stops_the_run_and_the_command_line_goes_on(place: Path) -> None:
    from gsqc.cli.main import main

    def stop(entry: dict[str, Any]) -> None:
        if entry["step"] == 3:
            raise gsqc.StopTraining

    result = train(place, on_step=stop, progress=False)
    assert (result.end, result.step) == ("stopped by a callback", 3)
    assert main(["train", "--resume", str(place / "run")]) == 0
    whole = train(place, run=place / "whole", progress=False)
    assert train(place, progress=False).digest == whole.digest


def test_options_are_checked(place: Path) -> None:
    with pytest.raises(OptionError, match="--lr"):
        train(place, lr=2)
    with pytest.raises(OptionError, match="learning_rate"):
        train(place, learning_rate=1)
    with pytest.raises(OptionError, match="rank"):
        gsqc.compile("model", place / "x.gsqc", adapter="lora:rank=0,alpha=1")
    assert not hasattr(gsqc, "Trainer")


@pytest.mark.parametrize(
    "wrong",
    [
        *[{"lr": v} for v in (-1, "abc", float("nan"), float("inf"), None, b"1", [1], True)],
        *[{"steps": v} for v in (True, 1.5, 0, -1, None, "3", 2**31, 10**5000)],
        *[{"threads": v} for v in (0, -1, True, 1.0, "2", 2**31 - 1, 2**31)],
        *[{"run": v} for v in (None, b"run", 5, "a\0b", "\ud800", "a" * 300)],
        *[{"seed": v} for v in (-1, 0.5, 2**31)],
        *[{"validation": v} for v in (2.0, -0.5, b"x", True, "absent.jsonl", "a" * 5000)],
        *[{"mask_prompt": "no"}, {"packing": 1}, {"schedule": ["linear"]}, {"clip": 0}],
        *[{"save_every": 0}, {"eval_every": True}, {"batch": 65}, {"warmup": -1}],
    ],
    ids=lambda wrong: str(next(iter(wrong))),
)
def test_wrong_values_of_train_are_errors_of_gsqc(place: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(gsqc.GsqcError):
        train(place, **wrong)
    assert not (place / "run" / "state.safetensors").exists()


@pytest.mark.parametrize("data", [[], (), None, 5, b"notes", [None], [b"x"], "a" * 300, "a\0b"])
def test_wrong_data_is_an_error_of_gsqc(place: Path, data: Any) -> None:
    with pytest.raises(gsqc.GsqcError):
        gsqc.train(place / "small.gsqc", data, run=place / "run", steps=1)
    with pytest.raises(gsqc.GsqcError):
        gsqc.evaluate(place / "small.gsqc", data)


@pytest.mark.parametrize(
    "wrong",
    [
        *[{"temperature": v} for v in (-1, float("nan"), float("inf"), "x", 101, None, [])],
        *[{"max_tokens": v} for v in (0, -1, True, 1.5, "3", None, 2**31)],
        *[{"seed": v} for v in (-1, True, 0.5, 2**31)],
        *[{"prompt": v} for v in ([], [-1], [257], [1.5], None, 5, "\ud800", b"\xff\xff")][:7],
        *[{"bundle": v} for v in (None, b"x", 5, "", "a" * 300, "a\0b")],
        {"threads": 2**31},
        {"run": b"x"},
        {"run": "a" * 300},
    ],
    ids=lambda wrong: str(next(iter(wrong))),
)
def test_wrong_values_of_generate_are_errors_of_gsqc(
    place: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    monkeypatch.setattr("gsqc.runtime.open_session.Session", FakeSession)
    chosen = {"bundle": place / "small.gsqc", "prompt": [1, 2], **wrong}
    with pytest.raises(gsqc.GsqcError):
        gsqc.generate(**chosen)


def test_a_prompt_may_be_an_array(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsqc.runtime.open_session.Session", FakeSession)
    texts = {
        gsqc.generate(place / "small.gsqc", tokens)
        for tokens in ([65, 66], np.array([65, 66]), np.array([65, 66], np.uint8), iter([65, 66]))
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"model": v} for v in (None, 5, b"x", "a\0b", [])]
    + [{"output": v} for v in (b"x", 5, "a\0b")]
    + [{"sequence_length": v} for v in (True, 2**31, "x", None)]
    + [{"batch": 65}, {"target": None}, {"bits": 4}, {"adapter": 5}, {"base": 1}, {"force": "x"}],
    ids=lambda wrong: str(next(iter(wrong))),
)
def test_wrong_values_of_compile_are_errors_of_gsqc(place: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(gsqc.GsqcError):
        gsqc.compile(**{"model": "absent", "output": place / "x.gsqc", **wrong})


def test_an_error_of_a_callback_stays_what_it_is(place: Path) -> None:
    def fail(entry: dict[str, Any]) -> None:
        raise FileNotFoundError("the user's own file")

    with pytest.raises(FileNotFoundError, match="own file"):
        train(place, on_step=fail, progress=False)


def test_a_plot_has_both_losses(place: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    axes = train(place, eval_every=2, progress=False).plot()
    assert [len(line.get_xdata()) for line in axes.get_lines()] == [8, 5]
    axes.figure.savefig(place / "loss.png")
    assert (place / "loss.png").stat().st_size > 5000


def test_a_plot_without_matplotlib_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OptionError, match="matplotlib is not installed"):
        train(place, progress=False).plot()


def test_a_notebook_gets_one_output_that_is_replaced(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    handle = SimpleNamespace(update=shown.append)
    display, package = ModuleType("IPython.display"), ModuleType("IPython")
    vars(display).update(
        HTML=lambda text: text, display=lambda text, display_id: (shown.append(text), handle)[1]
    )
    vars(package).update(get_ipython=lambda: SimpleNamespace(kernel=None))
    assert not in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert in_notebook()
    train(place, eval_every=2)
    assert shown[0].startswith("<pre>step 0 / 8")
    assert "step 8 / 8" in shown[-1] and "held-out" in shown[-1]
