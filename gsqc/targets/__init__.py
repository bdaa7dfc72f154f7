# SPDX-License-Identifier: Apache-2.0
"""Targets turn recorded ops into code. Each is a folder that can be deleted without touching
anything else.
"""

from gsqc.targets.registry import NATIVE, all_targets, find_target, resolve_target

__all__ = ["NATIVE", "all_targets", "find_target", "resolve_target"]
