# SPDX-License-Identifier: Apache-2.0
"""lower_model: the float nodes of each part of the model become integer ops on typed values.

before:  y = linear(x, w)   p = attention(q, k, v)
after:   embed(tokens, table) -> x      head(x, …) -> logits
         block(x, …) -> x_out:   y: row16[T,n] = linear(x, w, x_bits=8, w_bits=8, bits=16)
                                 s = linear(q, k, …)   p = softmax(s)   …
         block_decode, embed_decode, head_decode: one token, with keys and values in caches
         block_prefill, …: several tokens of a prompt, if the target reads them at once

lowering_rules.py says what each op becomes. docs/number-format.md has the table of the widths.
"""

from __future__ import annotations

from typing import Any

from gsqc.bundle.image_file import IMAGE_ROWS
from gsqc.errors import ModelError
from gsqc.graph.function import Function, shape_of, value_of
from gsqc.graph.roles import STREAM_IN, STREAM_OUT, Kind, Role
from gsqc.models import model_ops
from gsqc.numerics.formats import Spec
from gsqc.numerics.ops.add import scale
from gsqc.numerics.ops.layout import reshape, take_leading
from gsqc.numerics.ops.place_images import choose_rows, image_places, take_images, text_tokens
from gsqc.passes.lowering import STREAM_BITS, VECTOR_BITS, Lowering, row_type
from gsqc.passes.lowering_rules import RULES, same_op
from gsqc.passes.modes import Mode, generation_modes, training_mode
from gsqc.passes.outline import Part, Storage
from gsqc.passes.properties import OUTLINED, TYPED
from gsqc.passes.step import Step, StepOptions, graph_pass


def _lower_nodes(lowering: Lowering) -> Any:
    """Lower the part's nodes in order; the last one's value."""
    nodes = lowering.part.nodes
    for node in nodes:
        for arg in node.all_input_nodes:
            if arg not in lowering.nodes and "constant" in arg.meta:
                lowering.add_constant(arg)
            if "positions" in arg.meta:
                lowering.nodes[arg] = lowering.position
        lowering.nodes[node] = RULES.get(node.target, same_op)(lowering, node)
    return lowering.nodes[nodes[-1]]


# ------------------------------------------------------------------------------------------------
# parts


def _stream(lowering: Lowering, what: str) -> Any:
    """The value of a part as the residual stream takes it. ModelError for another width."""
    value, last = _lower_nodes(lowering), lowering.part.nodes[-1]
    if last.target in (model_ops.rms_norm, model_ops.layer_norm):
        # Of a norm that ends a part nothing is lost by the 16 bits: the next sum has more.
        value = lowering.call(scale, value, factor=1.0, bits=STREAM_BITS)
    if getattr(value_of(value), "bits", None) != STREAM_BITS:
        name, line = getattr(last.target, "__name__", last.target), last.meta.get("source")
        raise ModelError(
            f"{what} ends with {name} ({line or 'unknown source'})",
            "gsqc compiles models whose layers follow an embedding, a sum or a norm directly",
        )
    return value


def _embed(part: Part, mode: Mode, options: StepOptions) -> Function:
    lowering = Lowering(part, mode, options, "embed")
    role = Role(Kind.INPUT, mode.inputs[0])
    tokens = lowering.input("tokens", Spec((mode.tokens,), "int32"), role)
    lowering.nodes[part.input] = tokens
    lowering.add_parameters(in_block=False)
    # Generation reads text alone.
    if mode.generates or not options.image_rows:
        x = _stream(lowering, "the embedding")
    else:
        x = _with_images(lowering, tokens)
    lowering.function.set_outputs({"x": (x, STREAM_OUT)})
    return lowering.function


def _with_images(lowering: Lowering, tokens: Any) -> Any:
    """The embedding, with the rows of images in place of tokens above the vocabulary."""
    part = lowering.part
    if [node.target for node in part.nodes] != [model_ops.embedding]:
        raise ModelError(
            "the model changes its embedding before the first layer",
            "compile without --image-rows: gsqc does not know where images would join",
        )
    vocabulary, width = part.parameters[0].shape
    count, most = lowering.mode.tokens, lowering.options.image_rows
    images = lowering.input(
        IMAGE_ROWS, row_type((most, width), VECTOR_BITS), Role(Kind.INPUT, IMAGE_ROWS)
    )
    call = lowering.call
    column = call(reshape, tokens, shape=(count, 1))
    known = call(text_tokens, column, vocabulary=vocabulary)
    lowering.nodes[part.input] = call(reshape, known, shape=(count,))
    x = _stream(lowering, "the embedding")
    places = call(image_places, column, vocabulary=vocabulary, rows=most)
    rows = call(take_images, call(reshape, places, shape=(count,)), images)
    return call(choose_rows, x, rows, column, vocabulary=vocabulary)


def _block(part: Part, mode: Mode, options: StepOptions, kind: str, hidden: int) -> Function:
    lowering = Lowering(part, mode, options, kind, kind)
    x = lowering.input("x", row_type((mode.tokens, hidden), STREAM_BITS), STREAM_IN)
    lowering.nodes[part.input] = x
    # Asking makes the placeholder: here, so that it stands before the weights.
    assert lowering.position is not None
    lowering.add_parameters(in_block=True)
    out = _stream(lowering, "a decoder layer")
    lowering.function.set_outputs({"x_out": (out, STREAM_OUT), **lowering.next_caches})
    return lowering.function


def _head(part: Part, mode: Mode, options: StepOptions, hidden: int) -> Function:
    """From the stream to logits: of every token in training, of the last one in generation."""
    lowering = Lowering(part, mode, options, "head")
    x = lowering.input("x", row_type((mode.tokens, hidden), STREAM_BITS), STREAM_IN)
    lowering.add_parameters(in_block=False)
    # Of a chunk of a prompt only the last token's logits are used, and the table is the largest
    # product of all.
    if mode.generates and mode.tokens > 1:
        x = lowering.call(take_leading, x, start=mode.tokens - 1, count=1)
    lowering.nodes[part.input] = x
    logits: Any = _lower_nodes(lowering)
    # vocabulary_logits gives several results, one for each chunk of the vocabulary.
    if not isinstance(logits, tuple):
        raise ModelError(
            "the model's result is no product with a table of the vocabulary",
            "gsqc compiles models that end with a linear head",
        )
    named = {f"logits_{k}": node for k, node in enumerate(logits)}
    outputs = {name: (node, Role(Kind.OUTPUT, name)) for name, node in named.items()}
    lowering.function.set_outputs(outputs)
    return lowering.function


@graph_pass(requires=(OUTLINED,), ensures=(TYPED,))
def lower_model(step: Step) -> Step:
    """The functions embed, one for each kind of block, and head: for training, and for each mode of
    generation.
    """
    outline, options = step.parts, step.options
    # The stream is as wide as the embedding.
    table = next(p for p in outline.embed.parameters if p.storage is Storage.TABLE)
    hidden = table.shape[1]
    for mode in (training_mode(options), *generation_modes(options)):
        for kind, part in outline.kinds.items():
            step.add(_block(part, mode, options, kind, hidden))
        # A classifier's last block gives logits, whatever the width of the stream before it.
        last = step.functions[mode.function(outline.layer_kinds[-1])]
        width = shape_of(last.results["x_out"])[-1]
        step.add(_embed(outline.embed, mode, options), _head(outline.head, mode, options, width))
    return step
