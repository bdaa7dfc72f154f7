# SPDX-License-Identifier: Apache-2.0
"""Tests of the units: RTL and gates against their meaning, the meaning against the formats."""
