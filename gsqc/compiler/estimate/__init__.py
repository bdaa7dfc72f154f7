# SPDX-License-Identifier: Apache-2.0
"""What a fine-tune will need, before anything is compiled: memory, disk and time, from the
compiler's own plan.

shallow   the plan of a whole model from two of its layers
memory    its parts in bytes
probe     the time of a step, from kernels measured on this machine
"""
