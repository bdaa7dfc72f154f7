# SPDX-License-Identifier: Apache-2.0
"""The commands as functions, and what `import gsqc` and the runtime load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

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
    with pytest.raises(TypeError, match="learning_rate"):
        train(place, learning_rate=1)
    with pytest.raises(OptionError, match="rank"):
        gsqc.compile("model", place / "x.gsqc", adapter="lora:rank=0,alpha=1")
    assert not hasattr(gsqc, "Trainer")


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
