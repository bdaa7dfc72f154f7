# SPDX-License-Identifier: Apache-2.0
"""Faults put into gsqc on purpose: its tests must find each of them."""
