# SPDX-License-Identifier: Apache-2.0
"""What other programs read of a run, and what a run takes from them.

adapter.py      the adapter of a run: its int32 matrices by the name of the linear they belong to
place.py        where results go: complete, or not at all
peft.py         the adapter as a PEFT directory         import_peft.py  and back
llama_cpp.py    the adapter as a GGUF file
merge.py        base + adapter as weights               hf_model.py, gguf_model.py, onnx_model.py  as files of a model
"""
