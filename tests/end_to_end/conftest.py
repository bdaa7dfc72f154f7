# SPDX-License-Identifier: Apache-2.0
"""The trained runs that the tests of exports share, each compiled once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.trained import Trained


@pytest.fixture(scope="session")
def from_gguf(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run whose base keeps the Q4_1 codes of a GGUF file."""
    # Imported here: most tests of this folder need neither gguf nor transformers.
    from gsqc.adapters.lora import Lora
    from gsqc.compiler.compile import compile_model
    from gsqc.compiler.options import CompileOptions
    from tests.end_to_end.trained import Trained
    from tests.export.tiny_gguf import write_tiny_gguf

    folder = tmp_path_factory.mktemp("gguf")
    model = write_tiny_gguf(folder / "tiny.gguf")
    options = CompileOptions(
        folder / "b.gsqc", base="gguf", adapter=Lora(4, 8), sequence_length=24, seed=1
    )
    compile_model(str(model), options)
    return Trained(model, options.output, folder)


@pytest.fixture(scope="session")
def from_directory(
    model_directory: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """A run whose base is NF4, made from float weights."""
    from tests.end_to_end.trained import Trained

    return Trained(model_directory, bundle, tmp_path_factory.mktemp("directory"))
