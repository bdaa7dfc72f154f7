# SPDX-License-Identifier: Apache-2.0
"""The campaign: kills, faults of the system and mutated files, against every command.

`make campaign` runs the long form, and `make test` a short one with fixed seeds.
"""
