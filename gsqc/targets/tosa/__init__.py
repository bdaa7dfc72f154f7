# SPDX-License-Identifier: Apache-2.0
"""TOSA 1.0 programs of whole functions, and Arm's reference model that runs them."""
