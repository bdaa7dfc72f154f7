# SPDX-License-Identifier: Apache-2.0
"""The NPU's part of a bundle: for each function a command stream, its constants, and where its
tensors lie.

NAME.cop        the driver's command block, as `ethosu_invoke` takes it
NAME.constants  tables and constants, for the region `constant_region`
manifest        the target's details.programs.NAME: inputs and outputs as [port, shape, dtype,
                region, address], and the sizes of the regions

The host copies a program's inputs to their addresses, runs the command stream, and copies its
outputs from theirs. read_code.py reads all of this from a bundle.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from gsqc.bundle.machine import default_threads
from gsqc.bundle.plan import ITEM_BYTES, Plan
from gsqc.bundle.writer import BundleWriter
from gsqc.errors import TargetError
from gsqc.files.reading import read_file
from gsqc.numerics.operators.trace import Operator
from gsqc.targets.arm_npu.accelerators import NpuOptions
from gsqc.targets.arm_npu.builder import STYLE
from gsqc.targets.arm_npu.estimate import cycle_estimate, step_estimate
from gsqc.targets.arm_npu.plain_int8 import plain_int8_cycles
from gsqc.targets.arm_npu.refusals import explain_refusal
from gsqc.targets.arm_npu.u85.run import Port
from gsqc.targets.arm_npu.vela import RefusedOperatorError, VelaOutput, run_vela
from gsqc.targets.interface import CodeJob
from gsqc.targets.programs import Program
from gsqc.targets.tosa.programs import SerialisedProgram, serialise_functions


def compile_program(program: Program, tosa: bytes, options: NpuOptions) -> VelaOutput:
    """Compile one function with Vela. TargetError unless all of it runs on the NPU and every tensor
    has a place.
    """
    # Vela refuses a TOSA operator that it cannot place, so the checks below should never fail.
    output = run_vela(program.name, tosa, options)
    if output.cpu_operators:
        raise TargetError(
            f"{output.cpu_operators} operators of {program.name} would run on the CPU",
            "report it: none should",
        )
    for side, nodes, ports in (
        ("input", program.trace.inputs, output.compiled.inputs),
        ("output", program.trace.outputs, output.compiled.outputs),
    ):
        wanted = [math.prod(n.shape) * ITEM_BYTES[n.dtype] for n in nodes]
        if wanted != [p.size for p in ports]:
            raise TargetError(
                f"Vela changed the {side}s of {program.name}",
                "report it: the program is not usable",
            )
    return output


def _table(
    names: list[str], ports: tuple[Port, ...], shapes: list[tuple[int, ...]]
) -> list[list[Any]]:
    # Vela's ports have the same size, but perhaps other axes. The host knows the plan's shape.
    return [
        [name, list(shape), port.dtype, port.region, port.address]
        for name, port, shape in zip(names, ports, shapes, strict=True)
    ]


def _entry(
    plan: Plan, program: Program, origins: dict[str, Operator], output: VelaOutput
) -> dict[str, Any]:
    compiled = output.compiled
    return {
        "inputs": _table(program.inputs, compiled.inputs, [n.shape for n in program.trace.inputs]),
        "outputs": _table(
            program.outputs, compiled.outputs, [n.shape for n in program.trace.outputs]
        ),
        "constant_region": compiled.constant_region,
        "region_bytes": {str(region): size for region, size in compiled.scratch_bytes.items()},
        "npu_operators": output.npu_operators,
        "cpu_operators": output.cpu_operators,
        "estimate": cycle_estimate(plan, program, origins, output),
    }


def _step_estimate(
    plan: Plan, entries: dict[str, dict[str, Any]], options: NpuOptions
) -> dict[str, Any]:
    """The step's cycles, and what they would be with plain int8 matmuls."""
    step = step_estimate(plan, entries)
    # The rest of the step stays as it is, so only the matmuls are exchanged.
    plain = (
        step["cycles"]
        - step["cycles_by_op"].get("gse_matmul", 0)
        + plain_int8_cycles(plan, options)
    )
    return {
        "source": "Vela's estimate, not measured",
        **step,
        "cycles_with_plain_int8_matmul": plain,
    }


def _compile_all(
    job: CodeJob, programs: dict[str, SerialisedProgram], options: NpuOptions
) -> Iterator[tuple[str, VelaOutput]]:
    """The outputs in the programs' order. As many Velas run side by side as there are cores."""
    with ThreadPoolExecutor(default_threads()) as pool:
        done = {
            # Vela is a process of its own, so threads are enough to use all cores.
            name: pool.submit(compile_program, s.program, s.tosa, options)
            for name, s in programs.items()
        }
        for number, (name, future) in enumerate(done.items(), 1):
            job.progress(
                f"compiling {name} for {options.accelerator} ({number} of {len(programs)})"
            )
            try:
                yield name, future.result()
            except RefusedOperatorError as error:
                # Vela names the operator but not the op, so each op is compiled alone to find it.
                pool.shutdown(cancel_futures=True)
                raise explain_refusal(error, job.plan, name, options, job.sources) from None
            except TargetError:
                # One failure is the answer: do not let the other functions run for minutes.
                pool.shutdown(cancel_futures=True)
                raise


@dataclass(frozen=True)
class NpuCode:
    """What was compiled: its size, the target's `details`, and the value of --recompute of the
    first plan that fits --dram-mib.
    """

    code_bytes: int
    details: dict[str, Any]
    recompute: str


def add_npu_code(bundle: BundleWriter, folder: str, job: CodeJob, options: NpuOptions) -> NpuCode:
    """Add the compiled programs to a folder of the bundle.

    TargetError if no plan fits --dram-mib, or if a program cannot be compiled. The error lists the
    ops that the NPU refuses, with the user's source lines.
    """
    programs = serialise_functions(job.plan, STYLE)
    entries, code_bytes = {}, 0
    for name, output in _compile_all(job, programs, options):
        serialised = programs[name]
        bundle.add_bytes(f"{folder}{name}.cop", output.payload)
        bundle.add_bytes(f"{folder}{name}.constants", output.compiled.constants)
        code_bytes += len(output.payload) + len(output.compiled.constants)
        entries[name] = _entry(job.plan, serialised.program, serialised.origins, output)
    # The functions of all plans are the same: only how often they run and what is kept differs.
    plans = job.leaner_plans()
    needs = {recompute: _dram_bytes(p, entries) + code_bytes for recompute, p in plans.items()}
    recompute = _first_that_fits(needs, options, job.smaller)
    job.progress("estimating cycles")
    details = {
        **_machine(options),
        "dram_bytes": needs[recompute],
        "step": _step_estimate(plans[recompute], entries, options),
        "programs": entries,
    }
    return NpuCode(code_bytes, details, recompute)


def _dram_bytes(plan: Plan, entries: dict[str, dict[str, Any]]) -> int:
    """What a training session keeps in DRAM beside code: every buffer, the activations between
    programs, and one region for the program that runs.

    Base weights that only the prepare schedule reads count, although a host can drop them after it.
    """
    # One region of the largest program: they run one after the other.
    buffers = plan.buffer_bytes(*plan.buffers)
    activations = max((s.activation_bytes for s in plan.schedules.values()), default=0)
    region = max((max(map(int, e["region_bytes"].values())) for e in entries.values()), default=0)
    return buffers + activations + region


def _first_that_fits(needs: dict[str, int], options: NpuOptions, smaller: str) -> str:
    """The first value of --recompute whose step fits --dram-mib. If none does, a TargetError says
    how much is enough.
    """
    # The plans come with the fastest first: those after it recompute more and keep less.
    for recompute, dram_bytes in needs.items():
        if options.dram_mib is None or dram_bytes <= options.dram_mib << 20:
            return recompute
    least = -(-min(needs.values()) // 2**20)
    assert options.dram_mib is not None
    raise TargetError(
        f"the step needs {least} MiB of DRAM, {least - options.dram_mib} more than "
        f"--dram-mib {options.dram_mib}",
        f"--dram-mib {least} is enough; {smaller}",
    )


def _machine(options: NpuOptions) -> dict[str, Any]:
    """The options as the manifest holds them: no path of the machine that compiled."""
    # The same compilation on another machine must give the same manifest.
    machine = asdict(options)
    if options.config is not None:
        machine["config"] = options.config.name
        machine["config_sha256"] = hashlib.sha256(read_file(options.config)).hexdigest()
    return machine
