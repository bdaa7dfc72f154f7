# SPDX-License-Identifier: Apache-2.0
"""Tests of compilations whose plans and digests are kept as files."""
