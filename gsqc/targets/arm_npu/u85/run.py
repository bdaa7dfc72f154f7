# SPDX-License-Identifier: Apache-2.0
"""Runs what Vela wrote for one program: `read_compiled` reads its raw output, and
`run_command_stream` runs it on arrays.

This checker is independent: it knows the operations of the hardware, and nothing of gsqc's ops or
of TOSA.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gsqc.errors import CommandStreamError
from gsqc.targets.arm_npu.u85.decode import decode
from gsqc.targets.arm_npu.u85.execute import Machine
from gsqc.targets.arm_npu.u85.memory import Memory, Region
from gsqc.targets.arm_npu.u85.operation import Operation
from gsqc.targets.arm_npu.u85.register_file import HINT

Array = npt.NDArray[Any]
_MAGIC = b"COP1"
_CONFIG, _COMMANDS, _NOP = 1, 2, 5
_DTYPES = {1: "int8", 2: "int16", 4: "int32"}
# A bundle may come from a stranger: its sizes must not take the machine's memory.
_MOST_BYTES = 1 << 34
_UNREADABLE = (OSError, EOFError, KeyError, ValueError, TypeError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Port:
    """An input or output of a program: its shape, its dtype, and where in memory it lies."""

    shape: tuple[int, ...]
    dtype: str
    region: int
    address: int

    @property
    def size(self) -> int:
        """Bytes."""
        # In Python's integers: a shape from a file must not overflow into a small size.
        return int(np.prod(self.shape, dtype=object)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Compiled:
    """Vela's output: command words, constants, sizes of scratch memory by region, and the inputs
    and outputs in order.

    `macs` is the NPU's number of multipliers, on which the order of constant weights depends.
    """

    commands: tuple[int, ...]
    macs: int
    constants: bytes
    constant_region: int
    scratch_bytes: dict[int, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def operations(self) -> list[Operation]:
        """The decoded command stream."""
        return list(decode(self.commands, self.macs))


def _actions(payload: bytes) -> Iterator[tuple[int, list[int]]]:
    """The actions of a payload for Arm's driver: "COP1", then a word with the action's number, and
    its further words.

    1 gives the configuration (two words), 2 is the command stream (its length in 24 bits), 5 is
    padding.
    """
    words = np.frombuffer(payload + b"\0" * (-len(payload) % 4), "<u4").tolist()
    if payload[:4] != _MAGIC:
        raise CommandStreamError("the command stream has no driver header", HINT)
    at = 1
    while at < len(words):
        action = words[at] & 0xFF
        # An unknown action has an unknown length: what follows could not be found.
        if action not in (_CONFIG, _COMMANDS, _NOP):
            raise CommandStreamError(f"driver action {action} is unknown", HINT)
        # The stream's length has 24 bits: the upper 8 stand below the lower 16.
        long = words[at] >> 16 | (words[at] >> 8 & 0xFF) << 16
        count = {_CONFIG: 2, _COMMANDS: long, _NOP: 0}[action]
        yield action, words[at + 1 : at + 1 + count]
        at += 1 + count


def command_words(payload: bytes) -> tuple[int, ...]:
    """The command stream inside a payload for Arm's driver."""
    for action, words in _actions(payload):
        if action == _COMMANDS:
            return tuple(words)
    raise CommandStreamError("the driver payload holds no command stream", HINT)


def multipliers(payload: bytes) -> int:
    """The number of multipliers of the NPU that a payload is made for."""
    for action, words in _actions(payload):
        if action == _CONFIG and words:
            # The low 4 bits of the configuration are a power of two.
            return 1 << (words[0] & 0xF)
    raise CommandStreamError("the driver payload holds no configuration", HINT)


def _ports(arrays: Any, side: str) -> tuple[Port, ...]:
    columns = [
        arrays[f"{side}_{name}"].tolist() for name in ("shape", "elem_size", "region", "offset")
    ]
    return tuple(
        Port(tuple(shape), _DTYPES[size], region, offset)
        for shape, size, region, offset in zip(*columns, strict=True)
    )


def read_compiled(path: Path) -> Compiled:
    """Read what `vela --output-format raw` wrote. CommandStreamError if it is something else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            # Both kinds may be one region: then the larger size holds.
            scratch: dict[int, int] = {}
            for kind in ("scratch", "scratch_fast"):
                region, size = int(arrays[f"{kind}_region"]), int(arrays[f"{kind}_size"])
                scratch[region] = max(size, scratch.get(region, 0))
            payload = arrays["cmd_data"].tobytes()
            return Compiled(
                commands=command_words(payload),
                macs=multipliers(payload),
                constants=arrays["weight_data"].tobytes(),
                constant_region=int(arrays["weight_region"]),
                scratch_bytes=scratch,
                inputs=_ports(arrays, "input"),
                outputs=_ports(arrays, "output"),
            )
    except _UNREADABLE as error:
        raise CommandStreamError(
            f"{path} is not Vela's raw output ({error})", "run vela --output-format raw"
        ) from error


def run_command_stream(compiled: Compiled, inputs: Sequence[Array]) -> list[Array]:
    """Run a program in poisoned memory. Inputs and outputs have Vela's order, and the shapes and
    dtypes of the program's ports.

    Raises CommandStreamError for an operation or register that is not modelled, a read of a byte
    that nobody wrote, an address outside its region, or an overflow. The text says at which
    operation.
    """
    memory = _memory(compiled)
    if len(inputs) != len(compiled.inputs):
        raise CommandStreamError(
            f"the program has {len(compiled.inputs)} inputs, not {len(inputs)}", HINT
        )
    for port, array in zip(compiled.inputs, inputs, strict=True):
        # The NPU is little-endian, whatever the host is.
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        if len(data) != port.size:
            raise CommandStreamError(
                f"an input of {port.shape} {port.dtype} got {array.shape} {array.dtype}", HINT
            )
        memory.put(port.region, port.address, data)
    machine, done = Machine(memory), 0
    try:
        for operation in decode(compiled.commands, compiled.macs):
            machine.run(operation)
            done += 1
    except CommandStreamError as error:
        raise CommandStreamError(f"operation {done}: {error}", error.hint) from error
    return [
        np.frombuffer(memory.bytes_at(port.region, port.address, port.size), port.dtype).reshape(
            port.shape
        )
        for port in compiled.outputs
    ]


def _memory(compiled: Compiled) -> Memory:
    if not all(0 <= size <= _MOST_BYTES for size in compiled.scratch_bytes.values()):
        raise CommandStreamError(f"scratch memory of {compiled.scratch_bytes} bytes", HINT)
    # All but the constants starts poisoned, as a board's memory may hold anything.
    regions = {number: Region(size) for number, size in compiled.scratch_bytes.items()}
    regions[compiled.constant_region] = Region(len(compiled.constants), compiled.constants)
    return Memory(regions)
