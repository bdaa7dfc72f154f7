# SPDX-License-Identifier: Apache-2.0
"""The golden executor. It runs each kernel of a plan as its op's function on numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import gsqc.numerics.ops.all  # noqa: F401  registers every op
from gsqc.bundle.plan import KernelPlan
from gsqc.errors import BundleError
from gsqc.limits import MAXIMUM_THREADS
from gsqc.numerics.formats import flatten, map_tensors
from gsqc.numerics.ops.registry import OPS, evaluate
from gsqc.targets.host_memory import HostMemory
from gsqc.targets.interface import Call, Functions, bind_each
from gsqc.values import require_whole

Array = npt.NDArray[Any]


class NumpyKernels(HostMemory):
    """The kernels of a plan by name, as `Kernels`."""

    def __init__(self, plans: dict[str, KernelPlan]) -> None:
        # A newer gsqc may have written the bundle. All unknown ops are named before the first step.
        unknown = sorted({p.op for p in plans.values()} - set(OPS))
        if unknown:
            raise BundleError(
                f"the bundle uses unknown ops: {', '.join(unknown)}",
                "install the gsqc that wrote it",
            )
        self.plans = plans

    def program(self, calls: Sequence[Call]) -> Functions:
        """Calls of kernels, and copies, bound to their arrays."""
        return bind_each(calls, self._bound)

    def _bound(self, name: str, arrays: Sequence[Array]) -> Callable[[], None]:
        """A call on flat arrays (inputs, then outputs), ready to run."""
        plan = self.plans[name]
        specs, attributes = plan.call()
        operation = OPS[plan.op]

        def run() -> None:
            remaining = iter(arrays)
            values = [map_tensors(v, lambda s: next(remaining).reshape(s.shape)) for v in specs]
            try:
                results = flatten(evaluate(operation, values, attributes))
            except AssertionError as error:  # a stranger's numbers fit their types, and no more
                raise BundleError(
                    f"the bundle's numbers are none that gsqc writes, in {name}: {error}",
                    "take a whole copy of the bundle, or compile the model again",
                ) from error
            # The inputs were taken from the front, so what remains is the outputs.
            targets = list(remaining)
            # copyto would broadcast a result that is too small into its target.
            if [(t.size, t.dtype) for t in targets] != [(r.size, r.dtype) for r in results]:
                raise BundleError(
                    f"the kernel {name} does not fit the plan", "compile the model again"
                )
            for target, result in zip(targets, results, strict=True):
                np.copyto(target, result.reshape(-1), casting="no")

        return run

    def set_threads(self, count: int) -> None:
        """numpy takes its threads from its own library. The result does not depend on them."""
        require_whole("threads", count, 1, MAXIMUM_THREADS)
