# SPDX-License-Identifier: Apache-2.0
"""Write runner/format.h, which tells gsqc-step what Python declares and both must share.

Run it after such a declaration has changed: python gsqc/runner/write_format.py
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gsqc.bundle import files, json_text, manifest, plan, tensor_file
from gsqc.bundle.fields import Kind, Rule, rule_of
from gsqc.data import WEIGHT_ONE
from gsqc.limits import MAXIMUM_SEQUENCES, MAXIMUM_STEPS, MAXIMUM_THREADS
from gsqc.numerics.optim import CLIP_INPUTS, INPUTS, STEP_NUMBER
from gsqc.numerics.optim.schedule_inputs import MANTISSA_BITS
from gsqc.runtime import requirements, results, store
from gsqc.training import fixed_settings, lock, token_file

FILE = Path(__file__).with_name("format.h")
WIDTH = 98

TEXTS: Mapping[str, str] = {
    "MANIFEST_FILE": files.MANIFEST,
    "PLAN_FILE": files.PLAN,
    "TOKENIZER_FILE": files.TOKENIZER,
    "BASE_FILE": files.BASE,
    "INITIAL_STATE_FILE": files.INITIAL_STATE,
    "CODE_FOLDER": files.CODE,
    "KERNELS_FILE": files.KERNELS,
    "PLAIN_CHARACTERS": files.PLAIN,
    "CONFIG_FILE": store.CONFIG,
    "STATE_FILE": store.STATE,
    "BEST_FILE": store.BEST,
    "LOG_FILE": store.LOG,
    "LOCK_FILE": lock.LOCK,
    "TOKENS_FORMAT": token_file.FORMAT,
    "COPY_NAME": plan.COPY,
    "DECODE_SCHEDULE": requirements.DECODE,
    "PREFILL_SCHEDULE": requirements.PREFILL,
    "LOSS_OUTPUT": requirements.LOSS,
    "STEP_NUMBER_INPUT": STEP_NUMBER,
}
NUMBERS: Mapping[str, int] = {
    "FORMAT_VERSION": manifest.FORMAT_VERSION,
    "RUN_FORMAT": store.RUN_FORMAT,
    "MAXIMUM_JSON_BYTES": files.MAXIMUM_JSON_BYTES,
    "MAXIMUM_HEADER_BYTES": tensor_file.MAXIMUM_HEADER_BYTES,
    "MAXIMUM_DEPTH": json_text.MAXIMUM_DEPTH,
    "MAXIMUM_COUNT": plan.MAXIMUM_COUNT,
    "MAXIMUM_BITS": plan.MAXIMUM_BITS,
    "MAXIMUM_ARGUMENTS": plan.MAXIMUM_ARGUMENTS,
    "MAXIMUM_THREADS": MAXIMUM_THREADS,
    "MAXIMUM_STEPS": MAXIMUM_STEPS,
    "MAXIMUM_SEQUENCES": MAXIMUM_SEQUENCES,
    "MAXIMUM_STEP": store.MAXIMUM_STEP,
    "ALIGNMENT": plan.ALIGNMENT,
    "WEIGHT_ONE": WEIGHT_ONE,
    "LOSS_ONE": results.LOSS_ONE,
    "MANTISSA_END": 1 << MANTISSA_BITS,
    "EXPONENT_END": token_file.EXPONENT_END,
    "STEP_INPUTS": len(INPUTS) + len(CLIP_INPUTS),
    "CLIP_MANTISSA": len(INPUTS),
    "SEQUENCE_PARTS": len(requirements.SEQUENCE_INPUTS),
}
LISTS: Mapping[str, Iterable[str]] = {
    "MADE_FROM_THE_PLAN": files.MADE_FROM_THE_PLAN,
    "BUFFER_KIND_NAMES": plan.BUFFER_KINDS,
    "SCHEDULE_NAMES": requirements.SCHEDULES,
    "SEQUENCE_PART_NAMES": requirements.SEQUENCE_INPUTS,
    "STEP_INPUT_NAMES": (*INPUTS, *CLIP_INPUTS),
    "GENERATION_INPUT_NAMES": requirements.GENERATION_INPUTS,
    "CHUNK_INPUT_NAMES": requirements.CHUNK_INPUTS,
    "NORM_SUM_NAMES": requirements.NORM_SUMS,
    "FIXED_SETTINGS": fixed_settings.FIXED_SETTINGS,
    "FIXED_IF_GIVEN": fixed_settings.FIXED_IF_GIVEN,
    "FIXED_BY_SCHEDULE": fixed_settings.FIXED_BY_SCHEDULE,
}
HEAD = """\
/* SPDX-License-Identifier: Apache-2.0 */
/* Written by write_format.py from the Python code: names, limits and rules of the files that both
 * runtimes read. */
#ifndef GSQC_FORMAT_H
#define GSQC_FORMAT_H
"""


def _rules(rule: Rule, path: str) -> Iterator[tuple[str, Rule]]:
    """Every field with its path. An object comes before its fields."""
    for name, part in rule.parts.items():
        yield f"{path}{name}", part
        yield from _rules(part, f"{path}{name}.")


def _row(path: str, rule: Rule) -> str:
    texts = "".join(f'"{text}", ' for text in rule.texts)
    choices = f"(const char *const[]){{{texts}NULL}}" if texts else "NULL"
    optional = "true" if rule.is_optional else "false"
    limits = f"{rule.limits.least}, {rule.limits.most}"
    return f'{{"{path}", FIELD_{rule.kind.name}, {optional}, {limits}, {choices}}},'


def _definition(name: str, parts: Iterable[str]) -> str:
    """A macro on as many lines as it needs. Each of `parts` begins a line."""
    wrapped = [
        line
        for part in parts
        for line in textwrap.wrap(part, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    ]
    return " \\\n".join([f"#define {name}", *(f"    {line}" for line in wrapped)])


def text() -> str:
    """The header's text."""
    kinds = ", ".join(f"FIELD_{kind.name}" for kind in Kind)
    buffers = ", ".join(name.upper() for name in plan.BUFFER_KINDS)
    values = "".join(f'{{"{kind}", {count}}}, ' for kind, count in plan.VALUE_TENSORS.items())
    rows = [_row(path, rule) for path, rule in _rules(rule_of(manifest.Manifest), "")]
    return "\n\n".join(
        [
            HEAD.rstrip(),
            "\n".join(f'#define {name} "{value}"' for name, value in TEXTS.items()),
            "\n".join(f"#define {name} {value}" for name, value in NUMBERS.items()),
            "\n".join(
                _definition(name, [", ".join(f'"{t}"' for t in texts)])
                for name, texts in LISTS.items()
            ),
            "/* The kinds of a plan's buffers, as BUFFER_KIND_NAMES has them. */",
            f"#define BUFFER_KIND_LIST {buffers}",
            "/* A kernel's input by its kind: how many tensors it has. */",
            f"#define VALUE_TENSORS {values.rstrip(', ')}",
            "/* What a field has to be (fields.h). */",
            _definition("FIELD_KIND_LIST", [kinds]),
            "/* The fields of a manifest: path, kind, whether it may be missing, limits, texts. */",
            _definition("MANIFEST_RULES", rows),
            "#endif\n",
        ]
    )


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
