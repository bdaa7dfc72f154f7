# SPDX-License-Identifier: Apache-2.0
"""Importing this module registers every op: it imports all modules of `gsqc.numerics.ops`, and the
bases and optimizers, whose ops stand beside their settings.
"""

from __future__ import annotations

import importlib
import pkgutil

import gsqc.numerics.ops

for _module in sorted(m.name for m in pkgutil.iter_modules(gsqc.numerics.ops.__path__)):
    if _module != "all":
        importlib.import_module(f"gsqc.numerics.ops.{_module}")

importlib.import_module("gsqc.numerics.bases")
importlib.import_module("gsqc.numerics.optim")
