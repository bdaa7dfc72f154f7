# SPDX-License-Identifier: Apache-2.0
"""An emulated GPU."""

from tests.targets.cuda.emulated import emulated_gpu

__all__ = ["emulated_gpu"]
