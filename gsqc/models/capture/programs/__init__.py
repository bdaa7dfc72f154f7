# SPDX-License-Identifier: Apache-2.0
"""Capture of programs: from the graph of an .onnx or .pt2 file to a captured model.

tracer.py      torch's operators on shapes; what depends on constants alone is computed at once
onnx_graph.py  the nodes of an .onnx file as torch's operators
pt2_graph.py   those of a .pt2 file
regions.py     parts of a graph with one source, and what they compute
patterns.py    norms, rotary embedding and activations, told by what they compute
attention.py   attention, in the forms in which exporters write it
roles.py       names of the parameters, by what they are used for
"""
