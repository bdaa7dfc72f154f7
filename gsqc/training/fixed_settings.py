# SPDX-License-Identifier: Apache-2.0
"""Which settings of config.json a run must keep when it goes on.

gsqc-step gets these lists through gsqc/runner/format.h.
"""

from __future__ import annotations

from gsqc.data.options import DataOptions
from gsqc.option import options_of
from gsqc.training.options import TrainOptions, recorded_names


def _settings(may_change: bool) -> tuple[str, ...]:
    declared = (*options_of(DataOptions), *options_of(TrainOptions))
    chosen = (o for o in declared if o.may_change is may_change)
    return tuple(dict.fromkeys(name for o in chosen for name in recorded_names(o)))


FIXED_IF_GIVEN = ("validation_sha256",)
"""The setting that counts only if the run began with a held-out file and goes on with one."""
FIXED_SETTINGS = tuple(s for s in _settings(may_change=False) if s not in FIXED_IF_GIVEN)
"""The settings of config.json that must not change when a run goes on."""
FIXED_BY_SCHEDULE = _settings(may_change=True)
"""More settings that must not change if the learning rate is not constant: it depends on them."""
