# SPDX-License-Identifier: Apache-2.0
"""The tiny model of the end-to-end tests, and an emulated GPU."""

from tests.end_to_end.conftest import model_directory
from tests.targets.cuda.emulated import emulated_gpu

__all__ = ["emulated_gpu", "model_directory"]
