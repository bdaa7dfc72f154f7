# SPDX-License-Identifier: Apache-2.0
"""Reads adapters that other programs trained, and fits them to a bundle.

take.py       from a path to the state of a run
find.py       the files of an adapter, and which program wrote them
peft.py       Hugging Face's PEFT
mlx.py        mlx-lm
llama_cpp.py  llama.cpp
floats.py     the numbers of a safetensors file
base_name.py  whether two names mean the same base model
pairs.py      A and B of each linear, as every reader gives them
fit.py        A and B at the bundle's rank and scale, as integers
"""
