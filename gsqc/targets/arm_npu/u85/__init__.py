# SPDX-License-Identifier: Apache-2.0
"""An interpreter of the Ethos-U85 command stream, written from its registers and independent of gsqc's ops."""
