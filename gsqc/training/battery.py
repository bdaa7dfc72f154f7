# SPDX-License-Identifier: Apache-2.0
"""The battery of this machine, as Linux shows it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gsqc.files.reading import read_file

SUPPLIES = Path("/sys/class/power_supply")


@dataclass(frozen=True)
class Battery:
    """How full the machine's batteries are together, in percent, and whether one is charged."""

    percent: int
    charges: bool


def read_battery(supplies: Path | None = None) -> Battery | None:
    """The battery, or None if the machine shows none. Those of a mouse or a pen do not count."""
    place = SUPPLIES if supplies is None else supplies
    try:
        names = sorted(os.listdir(place))
    except OSError:
        return None
    levels, states = [], []
    for name in names:
        capacity = _text(place / name / "capacity")
        is_own = _text(place / name / "scope") != "Device"
        if _text(place / name / "type") != "Battery" or not is_own:
            continue
        if re.fullmatch("[0-9]{1,3}", capacity):
            levels.append(min(int(capacity), 100))
            states.append(_text(place / name / "status"))
    if not levels:
        return None
    return Battery(sum(levels) // len(levels), any(s in ("Charging", "Full") for s in states))


def _text(file: Path) -> str:
    """A line that the kernel shows. Empty if there is none."""
    try:
        return read_file(file, most_bytes=1 << 16).decode(errors="replace").strip()
    except OSError:
        return ""
