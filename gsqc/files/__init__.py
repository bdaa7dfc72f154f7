# SPDX-License-Identifier: Apache-2.0
"""How gsqc reads and writes files. A stranger may have put anything in their place."""
