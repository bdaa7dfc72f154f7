# SPDX-License-Identifier: Apache-2.0
"""The tiny model of the end-to-end tests, and an emulated GPU."""

from tests.cuda.emulated import emulated_gpu
from tests.end_to_end.conftest import model_directory

__all__ = ["emulated_gpu", "model_directory"]
