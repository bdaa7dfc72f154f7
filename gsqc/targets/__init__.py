# SPDX-License-Identifier: Apache-2.0
"""Targets: what turns recorded ops into code, one folder each. A target can be deleted without touching another."""
