# SPDX-License-Identifier: Apache-2.0
"""Targets by name: a folder is a target, and one that is not there is an error in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import TargetPart
from gsqc.cli.main import main
from gsqc.compiler.options import CompileOptions
from gsqc.errors import OptionError, TargetError
from gsqc.targets import NATIVE, all_targets, find_target, registry, resolve_target
from tests.runtime.small_bundle import write_bundle

TOY = """
from gsqc.errors import OptionError, TargetError
from gsqc.option import Option
from gsqc.targets.numpy.target import NumpyTarget

NEEDS = ("numpy",)


class Abacus(NumpyTarget):
    name = "abacus"
    description = "wood"
    native_rank = 100
    options = (Option("Beads on a wire.", field="beads", kind=int, default=None, maximum=9),)

    def check_options(self, given):
        if given["beads"] < 1:
            raise OptionError("an abacus without beads", "give some")


TARGETS = (Abacus(),)
"""


@pytest.fixture
def more_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place beside gsqc/targets/numpy for further folders."""
    package = sys.modules["gsqc.targets"]
    folder = tmp_path / "targets"
    folder.mkdir()
    (folder / "numpy").symlink_to(registry._HERE / "numpy")
    monkeypatch.setattr(registry, "_HERE", folder)
    monkeypatch.setattr(package, "__path__", [str(folder), *package.__path__])
    registry._modules.cache_clear()
    yield folder
    registry._modules.cache_clear()
    sys.modules.pop("gsqc.targets.toy.target", None)
    sys.modules.pop("gsqc.targets.toy", None)


def add_toy(folder: Path, text: str = TOY) -> None:
    (folder / "toy").mkdir()
    (folder / "toy" / "__init__.py").write_text("")
    (folder / "toy" / "target.py").write_text(text)


def test_a_folder_is_a_target(more_folders: Path) -> None:
    assert registry.target_folders() == ["numpy"]
    add_toy(more_folders)
    registry._modules.cache_clear()
    assert [t.name for t in all_targets()] == ["numpy", "abacus"]
    assert find_target("abacus").description == "wood"
    assert resolve_target(NATIVE) == "abacus"


def test_a_folder_that_another_needs_takes_it_along(more_folders: Path) -> None:
    add_toy(more_folders, TOY.replace('("numpy",)', '("numpy", "wood")'))
    assert [t.name for t in all_targets()] == ["numpy"]
    with pytest.raises(OptionError, match="unknown target abacus"):
        find_target("abacus")


def test_a_target_brings_its_options(more_folders: Path) -> None:
    add_toy(more_folders)
    place = Path("x")
    options = CompileOptions(place, "abacus", target_options={"beads": 3})
    assert hash(options) == hash(CompileOptions(place, "abacus"))
    for target, given, said in (
        ("abacus", {"beads": 0}, "without beads"),
        ("abacus", {"bead": 1}, "abacus has no option bead"),
        ("numpy", {"beads": 1}, "numpy takes no --beads"),
    ):
        with pytest.raises(OptionError, match=said):
            CompileOptions(place, target, target_options=given)


def test_without_a_compiled_target_numpy_is_native(more_folders: Path) -> None:
    assert resolve_target(NATIVE) == "numpy"


def test_a_name_that_is_none_is_told_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", "anything", "-o", "x.gsqc", "--target", "sundial"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: unknown target sundial; one of: native, ")
    assert "numpy" in printed and "numpy-programs" not in printed and printed.count("\n") == 1


def test_a_bundle_for_a_target_that_is_not_here(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "a.gsqc", targets={"sundial": TargetPart("stone")})
    with pytest.raises(TargetError, match="sundial: a target that this gsqc does not have") as said:
        registry.best_target(Bundle.open(path))
    assert said.value.hint == f"make code for this machine: gsqc retarget {path} --target native"


def test_a_target_for_checks_has_no_bundles(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compile", "anything", "-o", "x.gsqc", "--target", "numpy-programs"]
    assert main(command) == 2
    assert "is for checks" in capsys.readouterr().err
    assert main([*command[:-1], "numpy", "--runner"]) == 2
    assert "gsqc-step runs CPU code, not numpy" in capsys.readouterr().err


def test_a_runtime_has_every_target_without_torch_and_tvm() -> None:
    """In a process in which neither can be imported."""
    program = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'tvm', 'transformers'));"
        "from gsqc.targets import all_targets;"
        "print([t.name for t in all_targets() if not t.refusal(t.entry())])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "numpy" in done.stdout


def test_every_target_describes_itself() -> None:
    names = [target.name for target in all_targets()]
    assert len(set(names)) == len(names)
    for target in all_targets():
        entry = target.entry()
        assert target.description and target.named(target.name) is not None
        assert find_target(target.name).entry() == entry
