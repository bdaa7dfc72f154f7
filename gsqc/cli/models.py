# SPDX-License-Identifier: Apache-2.0
"""gsqc models: lists the families of models, and how far each was tried."""

from __future__ import annotations

from typing import Annotated

from gsqc.cli.output import Output
from gsqc.cli.shared import JsonOption
from gsqc.models.families import ENCODERS, FAMILIES, TEXT_PARTS, ModelFamily, Proof
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
    shown, encoders = (
        [family for family in families if family.compiles or refused or json]
        for families in (FAMILIES, ENCODERS)
    )
    for proof in Proof:
        _list(out, proof.value, [f for f in shown if f.proof is proof], "generate")
    for proof in Proof:
        group = [f for f in encoders if f.proof is proof]
        _list(out, f"with --task classify, {proof.value}", group, "classify")
    hidden = len(FAMILIES) + len(ENCODERS) - len(shown) - len(encoders)
    if hidden:
        out.say(f"{hidden} families are refused: --refused lists them with what is missing")
    out.say(f"of models that see, the text part is taken: {', '.join(TEXT_PARTS)}")


def _list(out: Output, title: str, families: list[ModelFamily], task: str) -> None:
    if families:
        out.say(f"{title}:")
    for family in families:
        note = f"  ({family.note})" if family.note else ""
        out.say(f"  {family.type:18s} {family.models}{note}")
        out.emit({**_record(family), "task": task})


def _record(family: ModelFamily) -> dict[str, object]:
    return {
        "type": family.type,
        "models": family.models,
        "compiles": family.compiles,
        "proof": family.proof.name.lower(),
        "note": family.note,
    }
