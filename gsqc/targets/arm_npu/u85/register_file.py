# SPDX-License-Identifier: Apache-2.0
"""The registers while a command stream is decoded, and the errors for what is not modelled."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

from gsqc.errors import CommandStreamError
from gsqc.targets.arm_npu.u85.registers import REGISTERS

HINT = "compile the program again; if it stays, report it with Vela's .npz file"
Kind = TypeVar("Kind", bound=IntEnum)


def unmodelled(what: str) -> CommandStreamError:
    """The error for what this interpreter does not know."""
    return CommandStreamError(f"the Ethos-U85 interpreter does not model {what}", HINT)


def signed(value: int, bits: int) -> int:
    """The two's complement reading of the low `bits` bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def member(kind: type[Kind], value: int) -> Kind:
    """The member of an enumeration. If there is none, the error names enumeration and value."""
    try:
        return kind(value)
    except ValueError:
        raise unmodelled(f"{kind.__name__} {value}") from None


class RegisterFile:
    """The register file. `[name]` is the value that was set last.

    `macs` is the number of multipliers of the NPU that the stream was made for.
    """

    def __init__(self, macs: int) -> None:
        self.macs = macs
        self._values: dict[str, int] = {}

    def set(self, word: int, payload: int | None) -> None:
        """Run a command that sets a register. `payload` is its second word, if it has one."""
        name = REGISTERS.get(word & 0xFFFF)
        if name is None:
            raise unmodelled(f"register {word & 0xFFFF:#06x}")
        # Addresses and scales have more than 32 bits: the upper 16 stand in the command word.
        parameter = word >> 16
        self._values[name] = parameter if payload is None else parameter << 32 | payload

    def __getitem__(self, name: str) -> int:
        # A reset says nothing of the registers, so a stream must set those that it uses.
        if name not in self._values:
            raise CommandStreamError(f"an operation starts before register {name} was set", HINT)
        return self._values[name]

    def get(self, name: str) -> int:
        """The register's value, 0 if it was never set."""
        return self._values.get(name, 0)

    def equal(self, name: str, value: int) -> None:
        """Refuse any other value: a feature that gsqc's programs do not use."""
        if self[name] != value:
            raise unmodelled(f"{name} = {self[name]:#x}")

    def field(self, name: str, low: int, bits: int) -> int:
        """The number in `bits` bits of a register, counted from bit `low`."""
        return self[name] >> low & ((1 << bits) - 1)
