# SPDX-License-Identifier: Apache-2.0
"""Importing this module registers every op: the modules of `gsqc.numerics.ops` are found by name,
so none can be forgotten.
"""

from __future__ import annotations

import importlib
import pkgutil

import gsqc.numerics.ops

for _module in sorted(m.name for m in pkgutil.iter_modules(gsqc.numerics.ops.__path__)):
    if _module != "all":
        importlib.import_module(f"gsqc.numerics.ops.{_module}")
