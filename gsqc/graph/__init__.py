# SPDX-License-Identifier: Apache-2.0
"""The graph that passes work on: functions of typed calls, and their printed form."""
