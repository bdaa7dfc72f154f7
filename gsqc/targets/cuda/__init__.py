# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs, sm_80 and newer: kernels as CUDA C from the traces, compiled by nvcc."""

CUDA = "cuda"
