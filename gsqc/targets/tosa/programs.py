# SPDX-License-Identifier: Apache-2.0
"""The TOSA programs of a plan's functions, as every bundle holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.manifest import ProgramEntry
from gsqc.bundle.plan import Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.numerics.operators.trace import Operator
from gsqc.targets.programs import Program, ProgramStyle, compose_function
from gsqc.targets.tosa.serialise import serialise, serialise_with_origins

PLAIN = ProgramStyle()
"""The functions as they are, for readers that take any form."""


@dataclass
class SerialisedProgram:
    """A program with its TOSA file.

    `origins` gives, for the name of each tensor in the file, the operator that it comes from.
    """

    program: Program
    tosa: bytes
    origins: dict[str, Operator]


def serialise_functions(plan: Plan, style: ProgramStyle = PLAIN) -> dict[str, SerialisedProgram]:
    """Every function of a plan as a TOSA program. TargetError if tosa-tools is not installed."""
    programs = {name: compose_function(plan, name, style.builder) for name in plan.functions}
    return {
        name: SerialisedProgram(p, *serialise_with_origins(p.trace, style.forms))
        for name, p in programs.items()
    }


def program_file(name: str) -> str:
    """Where a bundle keeps the TOSA program of a function."""
    return f"programs/{name}.tosa"


def add_programs(bundle: BundleWriter, programs: dict[str, SerialisedProgram]) -> dict[str, Any]:
    """Add the TOSA files. Gives the manifest's table of their inputs and outputs, in the programs'
    order.
    """
    for name, serialised in programs.items():
        bundle.add_bytes(program_file(name), serialised.tosa)
    table = {
        name: ProgramEntry(tuple(s.program.inputs), tuple(s.program.outputs), len(s.origins))
        for name, s in programs.items()
    }
    return {"programs": table}


def program_bytes(bundle: Bundle, plan: Plan, name: str, style: ProgramStyle) -> bytes:
    """A function's TOSA program: the bundle's own, or made from its plan where it has none."""
    # The bundle's own file is what its maker published, and its hash was checked.
    if program_file(name) in bundle.files:
        return bundle.read(program_file(name))
    return serialise(compose_function(plan, name, style.builder).trace, style.forms)
