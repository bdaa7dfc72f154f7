# SPDX-License-Identifier: Apache-2.0
"""require_base: whether the base model that an adapter names is the bundle's.

Only the last part of a name counts, for the same model is on the hub under many owners. Quantised
copies have the name of their original and a suffix, such as Unsloth's -bnb-4bit and MLX's -4bit.
"""

from __future__ import annotations

import re

from gsqc.errors import ExportError
from gsqc.export.foreign.pairs import named

_BITS = r"[2-8]-?bit|int[48]|(?:mx|nv)fp4|fp8|b?f(?:p)?16|f(?:p)?32"
_GGML = r"i?q[1-8](?:-(?:[01]|k|nl|xxs|xs|s|m|l|xl))*"
_COPY = re.compile(rf"(?:[-.](?:unsloth|bnb|mlx|dwq|gguf|gptq|awq|hqq|{_BITS}|{_GGML}))+$")
"""The end of a name that tells how a copy is stored, after _ became -."""


def require_base(name: str, accepted: frozenset[str] | None) -> str | None:
    """A sentence for the user if `name` is one of `accepted` in another spelling, else None.

    An adapter without a name, and any name if `accepted` is None, are taken. Raises ExportError.
    """
    if accepted is None or not name:
        return None
    last, own = _last_part(name), {_last_part(each) for each in accepted}
    if last in own:
        return None
    shown = " or ".join(sorted(accepted))
    if _original(last) in {_original(each) for each in own}:
        return f"it names {named(name)} as its base, which is a copy of {shown} by its name"
    raise ExportError(
        f"the adapter is for {named(name)}, the bundle was made from {shown}",
        "if it is the same model under another name, add --any-base",
    )


def _last_part(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()


def _original(last: str) -> str:
    return _COPY.sub("", re.sub(r"[\s_]+", "-", last))
