# SPDX-License-Identifier: Apache-2.0
"""The golden target: every op's own function, evaluated by numpy."""
