# SPDX-License-Identifier: Apache-2.0
"""The command line. Each command has a file that parses its options and prints its results."""
