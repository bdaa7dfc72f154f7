# SPDX-License-Identifier: Apache-2.0
"""The manifest of a bundle: what it was compiled from, what it has code for, and the sha256 of each
of its files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from gsqc.bundle.fields import OneOf, Range, read_fields
from gsqc.errors import BundleError
from gsqc.limits import (
    MAXIMUM_LAYERS,
    MAXIMUM_SEQUENCE_LENGTH,
    MAXIMUM_SEQUENCES,
    MAXIMUM_VOCABULARY,
)
from gsqc.numerics.optim import OPTIMIZERS, make_optimizer
from gsqc.numerics.optim.optimizer import Optimizer
from gsqc.version import __version__

FORMAT_VERSION = 4
"""The format of the manifest, the plan and the numbers. gsqc reads this one only. Since 4, operands
are rotated (docs/number-format.md).
"""
AGAIN = "compile the model again (gsqc compile … --force)"

SEVERAL = "several"
"""The kind of an adapter that stands for several."""

Count = Annotated[int, Range(0, 2**31 - 1)]
Size = Annotated[int, Range(1, 2**31 - 1)]
Bytes = Annotated[int, Range(0, 2**63 - 1)]
BITS = tuple(
    f"{w}-{a}-{g}{base}"
    for w in (4, 8)
    for a in range(5, 9)
    for g in range(5, 9)
    for base in ("", *(f":w{n}" for n in range(4, 9) if n != a))
)
"""All texts of `--bits`."""


@dataclass(frozen=True)
class TargetPart:
    """A target that the bundle has code for.

    triple        the machine that the code is for, as LLVM writes it
    cpu_features  names of the CPU's features that the code needs
    rank          a machine that can run several takes the highest. Code without a rank is for an
                  accelerator, which comes before any CPU.
    code_bytes    the size of the code
    details       what only the target itself reads
    """

    triple: str
    cpu_features: tuple[str, ...] = ()
    rank: Count | None = None
    code_bytes: Bytes = 0
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ModelPart:
    """The model. `gsqc.models.special_tokens` says what its tokens are.

    architecture    Hugging Face's model type
    known_name      the name by which gsqc knows it, if any
    chat_template   as its files have it: a text, or a list of objects with name and template
    special_tokens  the variables of the template, by name. None: those of eos_token_id and
                    bos_token_id
    end_token_ids   what ends generation beside eos_token_id, or None
    labels          the names of a classifier's classes. None: the model makes text
    """

    architecture: str
    layers: Annotated[int, Range(1, MAXIMUM_LAYERS)]
    hidden: Size
    heads: Size
    key_value_heads: Size
    vocabulary: Annotated[int, Range(1, MAXIMUM_VOCABULARY)]
    name: str | None = None
    license: str | None = None
    tokenizer: str | None = None
    known_name: str | None = None
    eos_token_id: Any = None
    bos_token_id: Any = None
    chat_template: Any = None
    special_tokens: Mapping[str, str] | None = None
    end_token_ids: Any = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class MatrixEntry:
    """The shape of an adapter's matrix."""

    rows: Size
    columns: Size


@dataclass(frozen=True)
class AdapterPart:
    """The adapter.

    kind      a file of gsqc/adapters, or SEVERAL
    settings  its settings by name, such as rank and alpha. Its kind checks them. Of several: their
              texts by their linears, as "up+down" (gsqc/adapters/several.py)
    linears   the short names of the linears that have one
    matrices  its trainable matrices by their names in the state
    """

    kind: str
    settings: Mapping[str, Any]
    linears: tuple[str, ...]
    matrices: Mapping[str, MatrixEntry]

    def __str__(self) -> str:
        """The adapter as `--adapter` takes it. Several are joined by "and"."""
        if self.kind == SEVERAL:
            parts = self.settings.items()
            return " and ".join(f"{t}{',' if ':' in str(t) else ':'}linears={n}" for n, t in parts)
        settings = [f"{name}={value}" for name, value in self.settings.items()]
        return f"{self.kind}:{','.join([*settings, 'linears=' + '+'.join(self.linears)])}"


@dataclass(frozen=True)
class FileEntry:
    """The sha256 and the size of a file of the bundle, as it was written."""

    sha256: str
    bytes: Bytes


@dataclass(frozen=True)
class ProgramEntry:
    """A TOSA program: the ports that it reads and writes, in order, and its number of operators."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: Count


@dataclass(frozen=True)
class FirstSteps:
    """What the first steps gave on random batches.

    seed    of the batches
    steps   the digest after each step
    target  on which the steps ran
    """

    seed: Bytes
    steps: tuple[str, ...]
    target: str


@dataclass(frozen=True)
class CalibrationPart:
    """The text by which columns are shifted before they are quantised.

    name    of the file, without its folder
    tokens  of it that were read
    """

    name: str
    sha256: str
    tokens: Count

    def __str__(self) -> str:
        """For people."""
        return f"by {self.name}, {self.tokens:,} tokens"


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself.

    targets     what the bundle has code for, by the names of `gsqc targets`
    base_kinds  how each weight of the blocks is stored, by the name that it has, or would have, in
                the first block
    base_losses  what the weights of all blocks lost by that, in millionths: RMS of the difference
                 over RMS of the weight. Weights that lost nothing are not there. None in older
                 bundles, which do not say it.
    passes      optional passes as `--pass` takes them. None, and not written, without any
    calibration  the text that it was calibrated with, or None if it was not
    operators   how many operators of each kind the kernels have
    optimizer_settings  the whole numbers of the optimizer by name. None in older bundles, whose
                        optimizers have none
    golden      what its first steps gave on the machine that compiled it, if it could step it
    files       every other file by its name in the bundle
    """

    targets: Mapping[str, TargetPart]
    model: ModelPart
    adapter: AdapterPart
    bits: Annotated[str, OneOf(BITS)]
    base: str
    base_kinds: Mapping[str, str]
    optimizer: Annotated[str, OneOf(tuple(OPTIMIZERS))]
    sequence_length: Annotated[int, Range(1, MAXIMUM_SEQUENCE_LENGTH)]
    batch: Annotated[int, Range(1, MAXIMUM_SEQUENCES)]
    seed: Bytes
    recompute: str
    weights: str
    operators: Mapping[str, Count]
    planned_peak_bytes: Bytes
    weights_bytes: Bytes
    passes: tuple[str, ...] | None = None
    programs: Mapping[str, ProgramEntry] = field(default_factory=dict)
    base_losses: Mapping[str, Count] | None = None
    calibration: CalibrationPart | None = None
    optimizer_settings: Mapping[str, Count] | None = None
    golden: FirstSteps | None = None
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    gsqc_version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON data."""
        data = {"format_version": FORMAT_VERSION, **asdict(self)}
        # A bundle without optional passes has the manifest of a gsqc that knows none.
        if self.passes is None:
            del data["passes"]
        return data

    def trained_by(self) -> Optimizer:
        """The optimizer with its settings. BundleError if gsqc does not know them."""
        try:
            return make_optimizer(self.optimizer, self.optimizer_settings or {})
        except ValueError as error:
            raise BundleError(f"the bundle's optimizer is malformed: {error}", AGAIN) from None

    @staticmethod
    def from_json(data: Any) -> Manifest:
        """The manifest of a stranger's JSON data.

        Raises BundleError if it has another format, or if fields are wrong. The error names them.
        """
        version = data.get("format_version") if isinstance(data, dict) else None
        if type(version) is not int or version != FORMAT_VERSION:
            raise BundleError(
                f"the bundle has format {version}, this gsqc reads format {FORMAT_VERSION}",
                "compile the model again, or install the gsqc that wrote the bundle",
            )
        manifest = read_fields(Manifest, data, "the bundle's manifest", AGAIN)
        manifest.trained_by()
        return manifest
