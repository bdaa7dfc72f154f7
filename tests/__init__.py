# SPDX-License-Identifier: Apache-2.0
"""The tests of gsqc. Their folders mirror those of the package."""
