# SPDX-License-Identifier: Apache-2.0
"""What integers mean: formats, operators, ops, optimizers, random numbers."""
