# SPDX-License-Identifier: Apache-2.0
"""Arm Ethos-U85: programs go through Vela, and back through an interpreter of what it wrote."""
