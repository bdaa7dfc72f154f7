# SPDX-License-Identifier: Apache-2.0
"""A command is made from declarations: a new field is an option, with its help and its checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.exceptions import TyperException

from gsqc.adapters import parse_adapter
from gsqc.adapters.lora import Lora
from gsqc.cli.app import COMMANDS, app
from gsqc.cli.command import OptionsOf, as_command
from gsqc.cli.config import COMMANDS as WITH_FILE
from gsqc.cli.config import settings_of
from gsqc.cli.main import main
from gsqc.compiler.options import CompileOptions
from gsqc.data import DataOptions
from gsqc.errors import OptionError
from gsqc.option import Option, option, options_of
from gsqc.training.options import TrainOptions

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Oven:
    """Options of a command."""

    dishes: tuple[Path, ...] = option(help="What to bake.", flag="--dish", group="Food")
    degrees: int = option(180, help="Heat.", minimum=50, maximum=250, group="Heat")
    fan: bool = option(True, help="Move the air.", flag="--fan", opposite="--no-fan")
    heat: str | float = option("0.5", help="Share of the power.", maximum=1)


PART = OptionsOf(Oven, has=lambda o: o.field in ("degrees", "heat"))
SINGLE = OptionsOf(
    Option("Wood, in kg.", field="wood_kg", kind=int, default=None, minimum=1, maximum=9)
)


def call(function: Any, *arguments: str) -> Any:
    """The function's result, when it is called with a command line."""
    program = typer.Typer()
    program.command()(as_command("bake", function))
    return typer.main.get_command(program).main(list(arguments), standalone_mode=False)


def bake(oven: Oven, name: Annotated[str, Option("Whose.", is_argument=True)]) -> tuple[Any, ...]:
    """Bake
    something.
    """
    return oven, name


def test_a_function_gets_an_object_made_of_options() -> None:
    oven, name = call(bake, "me", "--dish", "a", "--dish", "b", "--no-fan", "--heat", "1e-1")
    assert (oven, name) == (Oven((Path("a"), Path("b")), 180, False, "1e-1"), "me")


def test_every_problem_is_told() -> None:
    def two(
        oven: Oven, many: Annotated[int, Option("How many.", minimum=1, maximum=9)] = 1
    ) -> None: ...

    with pytest.raises(OptionError, match=r"--many 0 is not a whole number"):
        call(two, "--dish", "a", "--many", "0")


def test_some_of_the_options() -> None:
    def warm(chosen: Annotated[dict[str, Any], PART]) -> dict[str, Any]:
        return chosen

    assert call(warm, "--degrees", "90") == {"degrees": 90, "heat": "0.5"}
    with pytest.raises(TyperException):
        call(warm, "--dish", "a")


def test_a_single_option_may_come_from_elsewhere() -> None:
    """Single options are like those that a target adds."""

    def burn(chosen: Annotated[dict[str, Any], SINGLE]) -> dict[str, Any]:
        return chosen

    assert call(burn) == {"wood_kg": None}
    assert call(burn, "--wood-kg", "3") == {"wood_kg": 3}


def test_help_has_all_that_is_declared(capsys: Capture) -> None:
    call(bake, "--help")
    text = capsys.readouterr().out
    assert "Bake something." in text
    for word in ("Food", "Heat", "<integer from 50 to 250>", "[default: 180]", "--no-fan"):
        assert word in text, word


def test_an_option_that_a_file_may_give_is_not_required(capsys: Capture) -> None:
    """Typer requires none, because gsqc itself names all missing options at once."""
    assert main(["train"]) == 2
    error = capsys.readouterr().err
    assert "gsqc train needs BUNDLE, --data, --steps or --epochs, --run; give it here" in error
    assert "--config or --resume" in error
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "[required]" not in text and text.count("(needed)") == 4
    assert main(["tokens"]) == 2
    assert "Missing argument 'BUNDLE'" in capsys.readouterr().err


@pytest.mark.parametrize("cls", [TrainOptions, DataOptions, CompileOptions])
def test_defaults_of_the_command_line_are_those_of_the_class(cls: type) -> None:
    """Only those need none whose default depends on the machine or the model."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    name = "compile" if cls is CompileOptions else "train"
    defaults = {p.name: p.default for p in commands[name].params}
    (adapter,) = defaults.pop("adapter", ["lora:rank=16,alpha=32"])
    assert parse_adapter(adapter) == Lora()
    for declared in options_of(cls):
        if declared.name in defaults and declared.name not in ("target", "base"):
            # Typer's default of an empty list is None.
            wanted = None if declared.is_needed or declared.default == () else declared.default
            given = defaults[declared.name]
            if declared.parse is not None and given is not None:  # the command spells it
                given = declared.parse(given)
            assert str(given) == str(wanted), declared.name


@pytest.mark.parametrize("name", WITH_FILE)
def test_each_setting_without_a_default_has_an_example(name: str) -> None:
    """The file of gsqc init shows it."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for key, declared in settings_of(commands[name]).items():
        assert declared.example is not None or not (
            declared.is_needed or declared.given_default is None
        ), key


def test_every_help_text_is_a_sentence() -> None:
    for group in COMMANDS.values():
        for name, function in group.items():
            for declared in as_command(name, function).options:
                assert declared.help[0].isupper() and declared.help.endswith("."), declared.help
                assert ";" not in declared.help, declared.help


def test_every_number_has_a_least_and_a_largest_value() -> None:
    """So no count of a user takes all memory."""
    numbers = [
        (name, declared)
        for group in COMMANDS.values()
        for name, function in group.items()
        for declared in as_command(name, function).options
        if declared.kind in (int, float)
    ]
    assert len(numbers) > 30
    for name, declared in numbers:
        assert declared.maximum is not None, (name, declared.name)
        assert declared.problem(declared.minimum) is None
        for wrong in (declared.minimum - 1, declared.maximum + 1, 10**5000, "x", True, [1], b"1"):
            assert declared.problem(wrong) is not None, (name, declared.name, wrong)


@pytest.mark.parametrize("count", ["0", "1025", "2147483647", "2147483648", "9" * 5000])
def test_a_number_of_threads_that_no_machine_has(capsys: Capture, count: str) -> None:
    for command in (["eval", "x", "--data", "x"], ["check", "x"], ["generate", "x", "--prompt=a"]):
        assert main([*command, "--threads", count]) == 2
        error = capsys.readouterr().err
        assert "threads" in error and error.count("\n") == 1
