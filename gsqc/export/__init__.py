# SPDX-License-Identifier: Apache-2.0
"""What a run gives to other programs, and what it takes from them.

adapter.py     reads the adapter of a run: int32 matrices by the name of their linear
place.py       puts a result in its place: complete, or not at all
peft.py        writes the adapter as a PEFT directory
llama_cpp.py   writes the adapter as a GGUF file
mlx.py         writes the adapter as an MLX directory
foreign/       reads the adapters of other programs into a run
merge.py       adds the adapter to the base
hf_model.py    writes the merged model as a Hugging Face directory
gguf/          writes the merged model as a GGUF file
onnx_model.py  writes the merged model as ONNX
"""
