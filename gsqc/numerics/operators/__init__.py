# SPDX-License-Identifier: Apache-2.0
"""Integer tensor operators: the interface `builder`, and what evaluates or records them."""
