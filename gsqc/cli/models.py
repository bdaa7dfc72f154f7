# SPDX-License-Identifier: Apache-2.0
"""gsqc models: lists the families of models, and how far each was tried."""

from __future__ import annotations

from typing import Annotated

from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.models.families import FAMILIES, TEXT_PARTS, ModelFamily, Proof
from gsqc.option import Option


def models(
    refused: Annotated[
        bool, Option("List the families that are refused too, with what is missing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the families of models that compile, and what each was proved by.

    A family is a model_type of config.json. One that is not listed was not tried, and may compile.
    """
    out = Output(json)
    shown = [family for family in FAMILIES if family.compiles or refused or json]
    for proof in Proof:
        group = [family for family in shown if family.proof is proof]
        if group:
            out.say(f"{proof.value}:")
        for family in group:
            note = f"  ({family.note})" if family.note else ""
            out.say(f"  {family.type:18s} {family.models}{note}")
            out.emit(_record(family))
    hidden = len(FAMILIES) - len(shown)
    if hidden:
        out.say(f"{hidden} families are refused: --refused lists them with what is missing")
    out.say(f"of models that see, the text part is taken: {', '.join(TEXT_PARTS)}")


def _record(family: ModelFamily) -> dict[str, object]:
    return {
        "type": family.type,
        "models": family.models,
        "compiles": family.compiles,
        "proof": family.proof.name.lower(),
        "note": family.note,
    }
