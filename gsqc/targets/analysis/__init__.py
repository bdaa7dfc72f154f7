# SPDX-License-Identifier: Apache-2.0
"""What the compiled targets share: how an op's trace becomes loops."""
