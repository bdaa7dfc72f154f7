# SPDX-License-Identifier: Apache-2.0
"""Arm Ethos-U through TOSA: whole functions as programs, Arm's reference model, Vela."""
