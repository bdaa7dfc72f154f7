# SPDX-License-Identifier: Apache-2.0
"""Skips tests of a target whose folder was deleted. Provides a two-layer Llama and its bundle."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.targets_here import COMPILED, missing, missing_imports


class _ModuleOfMissingTarget(pytest.Module):
    """A test module that imports a target's folder, which is not here."""

    def collect(self) -> Iterator[pytest.Item]:
        """Nothing: one skip, with the reason."""
        names = ", ".join(missing_imports(self.path))
        pytest.skip(f"needs gsqc/targets/{names}", allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """A module whose imports would fail is not imported."""
    if not missing_imports(module_path):
        return None
    module: pytest.Module = _ModuleOfMissingTarget.from_parent(parent, path=module_path)
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `needs_target(FOLDER, …)` without that folder."""
    for item in items:
        marks = item.iter_markers("needs_target")
        gone = missing(name for mark in marks for name in mark.args)
        if gone:
            item.add_marker(pytest.mark.skip(reason=f"needs gsqc/targets/{', '.join(gone)}"))


@pytest.fixture(scope="session", autouse=True)
def heeded_interrupts() -> None:
    """Ctrl-C works in the programs that tests start, even if a shell started the tests with `&`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A record of trusted code for the tests alone."""
    folder = tmp_path_factory.mktemp("state-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def cache_home(pytestconfig: pytest.Config) -> Iterator[None]:
    """Compiled kernels of the tests alone, which all workers share and the next run finds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(pytestconfig.rootpath / ".pytest_cache"))
        yield


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as `save_pretrained` leaves it. Its 257 tokens are the bytes and the end of text, so
    the last chunk of the head is ragged.
    """
    # Imported here: most tests need no torch.
    from tests.models.capture.tiny import tiny_llama
    from tests.runtime.small_bundle import END, VOCABULARY, byte_tokenizer

    folder = tmp_path_factory.mktemp("tiny-llama")
    tiny_llama(vocab_size=VOCABULARY, eos_token_id=END).save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def bundle(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the model: 4-8-8, NF4, 24 tokens, two sequences a step, with first digests."""
    from gsqc.adapters.lora import Lora
    from gsqc.check.first_digests import take_first_digests
    from gsqc.compiler.compile import compile_model
    from gsqc.compiler.options import CompileOptions

    output = tmp_path_factory.mktemp("bundle") / "tiny.gsqc"
    adapter = Lora(rank=4, alpha=8)
    options = CompileOptions(output, COMPILED, adapter=adapter, sequence_length=24, batch=2, seed=1)
    first_digests = partial(take_first_digests, say=print)
    compile_model(str(model_directory), options, first_digests=first_digests)
    return output
