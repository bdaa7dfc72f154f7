# SPDX-License-Identifier: Apache-2.0
"""Reads a function's compiled program from a bundle, as npu_code.py wrote it. Nothing in the bundle
is trusted.
"""

from __future__ import annotations

from typing import Any

from gsqc.bundle.bundle import Bundle
from gsqc.bundle.files import code_folder
from gsqc.bundle.manifest import AGAIN
from gsqc.errors import BundleError
from gsqc.targets.arm_npu.u85.run import Compiled, Port, command_words, multipliers
from gsqc.targets.programs import port_directions

# The base addresses that the driver takes.
_REGIONS = 8
# More than a board has. Without a bound, a bundle's sizes could take all memory of the host.
_LARGEST = 1 << 34


def _port(entry: list[Any]) -> Port:
    _, shape, dtype, region, address = entry
    # A bundle may come from a stranger, and its addresses must stay inside the region.
    port = Port(tuple(shape), dtype, region, address)
    if not (0 <= region < _REGIONS and address >= 0 and address + port.size <= _LARGEST):
        raise ValueError("a tensor of a program leaves its region")
    return port


def read_npu_program(bundle: Bundle, target: str, name: str) -> Compiled:
    """A function's program as it was compiled for a target. BundleError if the bundle has none, or
    if it is malformed or has other ports.
    """
    programs = (bundle.manifest.targets[target].details or {}).get("programs")
    entry = programs.get(name) if isinstance(programs, dict) else None
    if entry is None:
        raise BundleError(f"the bundle has no NPU program {name}", AGAIN)
    try:
        read, written = port_directions(bundle.plan, name)
        # The host finds ports by name, the stream by place: another order would change their roles.
        if [e[0] for e in entry["inputs"]] != read or [e[0] for e in entry["outputs"]] != written:
            raise ValueError("its ports are not those of the plan")
        folder = code_folder(target)
        payload = bundle.read(f"{folder}{name}.cop")
        return Compiled(
            commands=command_words(payload),
            macs=multipliers(payload),
            constants=bundle.read(f"{folder}{name}.constants"),
            constant_region=int(entry["constant_region"]),
            scratch_bytes={
                int(region): int(size) for region, size in entry["region_bytes"].items()
            },
            inputs=tuple(_port(e) for e in entry["inputs"]),
            outputs=tuple(_port(e) for e in entry["outputs"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"the NPU program {name} is malformed ({error})", AGAIN) from None
