# SPDX-License-Identifier: Apache-2.0
"""The targets by name. Each is a folder beside this file that has a `target.py`.

No list names them: the folders that are there are the targets, and one that was deleted is gone.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import OptionError, TargetError
from gsqc.option import Option
from gsqc.targets.interface import Target
from gsqc.targets.programs import ProgramStyle

NATIVE = "native"
_HERE = Path(__file__).parent


def target_folders() -> list[str]:
    """The names of the folders that hold targets, in alphabetical order."""
    # A folder without target.py, such as analysis, only serves the others.
    found = [m.name for m in pkgutil.iter_modules([str(_HERE)]) if m.ispkg]
    return sorted(name for name in found if (_HERE / name / "target.py").is_file())


@cache
def _modules() -> dict[str, ModuleType]:
    """The `target.py` of each folder whose needs are met."""
    modules = {
        name: importlib.import_module(f"{__package__}.{name}.target") for name in target_folders()
    }
    # A folder may build on another (NEEDS). Without the other one, its targets cannot work either.
    return {n: m for n, m in modules.items() if set(getattr(m, "NEEDS", ())) <= set(modules)}


def usable_folders() -> list[str]:
    """The folders whose targets exist: those that they build on are here too."""
    return list(_modules())


def _all_targets() -> list[Target]:
    """Every target, those that users do not see among them."""
    return [target for module in _modules().values() for target in module.TARGETS]


def all_targets() -> list[Target]:
    """The targets that users see."""
    # The others serve checks of gsqc itself, and would only lengthen the lists of --help.
    return [target for target in _all_targets() if target.listed]


def find_target(name: str) -> Target:
    """The target of a name. `native` is the best one for this machine's CPU. OptionError for an
    unknown name.
    """
    if name == NATIVE:
        return _native()
    for target in _all_targets():
        found = target.named(name)
        if found is not None:
            return found
    known = ", ".join((NATIVE, *(target.name for target in all_targets())))
    raise OptionError(f"unknown target {name}", f"one of: {known} (gsqc targets)")


def resolve_target(name: str) -> str:
    """The full name of a target: `arm-npu` and `native` stand for others. Raises as find_target."""
    return find_target(name).name


def _native() -> Target:
    ranked = [t for t in _all_targets() if t.native_rank is not None]
    # numpy runs everywhere, so this is never empty.
    able = [t for t in ranked if t.refusal(t.entry()) is None]
    return max(able, key=lambda target: target.native_rank or 0)


def find_own(name: str) -> Target | None:
    """The target that a bundle calls by this name, None if this gsqc does not have it."""
    try:
        target = find_target(name)
    except (OptionError, TargetError):
        return None
    return target if target.name == name else None


def best_target(bundle: Bundle) -> Target:
    """Of the targets that the bundle has code for and this machine can run, the one with the
    highest rank. TargetError if there is none.
    """
    able, reasons = [], []
    for name, part in bundle.manifest.targets.items():
        target = find_own(name)
        error = target.refusal(part) if target else "a target that this gsqc does not have"
        if target is None or error is not None:
            reasons.append(f"{name}: {error}")
        else:
            able.append((part.rank is None, part.rank or 0, target))
    if not able:
        raise TargetError(
            f"this machine cannot run the bundle's code ({'; '.join(reasons) or 'it has none'})",
            f"make code for this machine: gsqc retarget {bundle.path} --target {NATIVE}",
        )
    return max(able, key=lambda entry: entry[:2])[2]


def target_options() -> list[tuple[str, Option]]:
    """Every option that a target adds to `gsqc compile`, after the target's name."""
    return [
        (target.name, replace(option, field=option.name))
        for target in all_targets()
        for option in target.options
    ]


def check_target_options(name: str, given: Mapping[str, object]) -> None:
    """OptionError unless the target takes these options with these values."""
    target = find_target(name)
    own = {option.name for option in target.options}
    # An option of another target most likely means that --target was forgotten.
    other = [(owner, o.shown_name) for owner, o in target_options() if o.name in set(given) - own]
    if other:
        flags, owners = (
            ", ".join(dict.fromkeys(words)) for words in zip(*other[::-1], strict=True)
        )
        raise OptionError(f"{target.name} takes no {owners}", f"add --target {flags}")
    unknown = set(given) - own
    if unknown:
        raise OptionError(
            f"{target.name} has no option {', '.join(sorted(unknown))}",
            f"it takes: {', '.join(sorted(own)) or 'none'}",
        )
    target.check_options(given)


def add_programs(
    bundle: BundleWriter, plan: Plan, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Add what targets give to every bundle, whatever it has code for. The manifest's fields."""
    fields: dict[str, Any] = {}
    for target in all_targets():
        fields |= target.add_programs(bundle, plan, progress)
    return fields


def program_style() -> ProgramStyle:
    """How the programs of a bundle are written: as the target wishes whose compiler reads them."""
    # One style for all bundles: the programs of a bundle then do not depend on its target.
    styles = (target.program_style() for target in _all_targets())
    return next((style for style in styles if style is not None), ProgramStyle())
