# SPDX-License-Identifier: Apache-2.0
"""The runtime: steps a bundle on the machine that it was compiled for.

It imports neither torch nor the compiler.
"""

from gsqc.data import TokenSequence
from gsqc.runtime.results import EvaluationResult, StepResult
from gsqc.runtime.session import Session

__all__ = ["EvaluationResult", "Session", "StepResult", "TokenSequence"]
