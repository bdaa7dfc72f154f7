# SPDX-License-Identifier: Apache-2.0
"""build_schedules: the order in which the functions run, and what each of their ports is bound to.

before:  functions embed, block_forward, block_backward, head_forward, …
after:   schedules, lists of calls that the runtime follows:

         prepare         when a session starts
                         block_prepare × L, head_prepare
         train           a step of one sequence
                         embed, block_forward × L, head_forward,
                         head_backward, (block_backward, update) × L
         gradient        a sequence of a step of several, or of a step that clips
                         as train, without the updates
         clip            once in a step that clips
                         the squares of each adapter matrix, clip_scale
         update          once in a step of several sequences, or that clips
                         the update of each adapter matrix
         evaluate        embed, block_forward × L, head_forward
         prepare_decode  when a generation starts: block_prepare_decode × L
         decode          one token: embed_decode, block_decode × L, head_decode
         prefill         a chunk of a prompt: embed_prefill, block_prefill × L, head_prefill

With small weights a block makes its operands each time it runs. Generation alone has them prepared:
then block_prepare stands in prepare_decode.

What a block's forward saves has a place of its own, or one that it shares with others. A block that
shares runs forward again before its backward: choose_recompute says which.
"""

from __future__ import annotations

from dataclasses import dataclass

from gsqc.bundle.plan import Reference, SchedulePlan
from gsqc.graph.roles import Kind, Role
from gsqc.passes.add_clipping import CLIP_SCALE, squares_name
from gsqc.passes.add_loss import HEAD
from gsqc.passes.add_optimizer import update_name
from gsqc.passes.bindings import ZEROS, Bind, Place, ScheduleBuilder, buffer_name, stream_names
from gsqc.passes.modes import BACKWARD, FORWARD, PREPARE, PREPARE_DECODE, Mode, generation_modes
from gsqc.passes.outline_blocks import FIRST_KIND
from gsqc.passes.plan_properties import BUFFERS_LISTED, GUARDS_SOUND, SCHEDULED
from gsqc.passes.step import Matrix, Step, graph_pass


@dataclass(frozen=True)
class _Schedules:
    """Writes the schedules of a step.

    kept  how many blocks beside the last keep what they save; None if all do
    """

    step: Step
    kept: int | None

    def new(self) -> ScheduleBuilder:
        """An empty schedule."""
        plan = self.step.plan
        outside = {n: t for tensors in plan.buffers.values() for n, t in tensors.items()}
        return ScheduleBuilder(self.step.functions, plan.functions, outside)

    @property
    def layers(self) -> range:
        """The decoder blocks, in order."""
        return range(self.step.parts.layers)

    def kind(self, layer: int) -> str:
        """The kind of a layer's block."""
        return self.step.parts.layer_kinds[layer]

    def recomputes(self, layer: int) -> bool:
        """Whether a layer's forward runs again before its backward."""
        return self.kept is not None and layer < len(self.layers) - 1 - self.kept

    def guard(self, layer: int) -> Reference | None:
        """What says whether a layer is trained in a step; None if it always is."""
        choice = self.step.choice
        return None if choice is None else Reference(choice.output, layer, 1)

    def shared_prefix(self, layer: int) -> str:
        """What the names of activations begin with that the layers of a kind share."""
        # Kinds do not share them: a saved value may have another size or type in each.
        kind = self.kind(layer)
        return "" if kind == FIRST_KIND else f"{kind}."

    def has_own_place(self, layer: int) -> bool:
        """Whether what a layer saves has a place of its own."""
        # What the last layer saves is used at once, so it may share with the others.
        is_last = layer == len(self.layers) - 1
        return not self.recomputes(layer) and (self.kept is None or not is_last)

    # --------------------------------------------------------------------------------------------
    # bindings

    def at(self, layer: int | None, stream: int, *, again: bool = False, sums: bool = True) -> Bind:
        """The bindings of a function of a layer, or of embedding and head, which takes the stream's
        value `stream`.

        With `sums`, gradients join the sums of the step. Without, they are sums of one sequence:
        from zeros to activations, which the update takes at once.
        """
        place, outline = Place(layer), self.step.parts
        streams = stream_names(stream, again=again, passes_on=self.step.choice is not None)

        def bind(role: Role, is_result: bool) -> str:
            if role in streams:
                return streams[role]
            # One name for all layers that share: what one saved is used up before the next saves.
            if role.kind is Kind.SAVED and layer is not None and not self.has_own_place(layer):
                return f"{self.shared_prefix(layer)}{role.name}"
            if role.kind is Kind.SUM and layer is not None and not sums:
                return f"{self.shared_prefix(layer)}{role.name}" if is_result else ZEROS
            return buffer_name(outline, role, place)

        return bind

    def on(self, matrix: Matrix, *, sums: bool = True) -> Bind:
        """The bindings of an update of one matrix; without `sums`, of a gradient in activations."""
        place, outline = Place(None, matrix.state_name), self.step.parts

        def bind(role: Role, is_result: bool) -> str:
            if role.kind is Kind.SUM and not sums:
                return f"{self.shared_prefix(matrix.layer)}{matrix.name}_{role.name}"
            return buffer_name(outline, role, place)

        return bind

    # --------------------------------------------------------------------------------------------
    # schedules

    def prepare(self) -> tuple[SchedulePlan, SchedulePlan]:
        """What runs when a session starts, and what runs when a generation starts."""
        session, generation = self.new(), self.new()
        weights = session if self.step.options.keep_operands else generation
        for k in self.layers:
            # A kind of block without an adapted linear has no operands of the adapter. A classifier
            # with small weights has no operands at all.
            for part, schedule in ((PREPARE, weights), (PREPARE_DECODE, generation)):
                name = f"{self.kind(k)}_{part}"
                if self.step.functions[name].outputs:
                    schedule.call(name, self.at(k, k))
        if self.step.options.keep_head:
            session.call(f"{HEAD}_{PREPARE}", self.at(None, len(self.layers)))
        return session.build(), generation.build()

    def _forward(self, schedule: ScheduleBuilder) -> None:
        schedule.call("embed", self.at(None, -1))
        for k in self.layers:
            schedule.call(f"{self.kind(k)}_{FORWARD}", self.at(k, k))
        schedule.call(f"{HEAD}_{FORWARD}", self.at(None, len(self.layers)))

    def evaluate(self) -> SchedulePlan:
        """The loss of one sequence."""
        schedule = self.new()
        self._forward(schedule)
        return schedule.build()

    def train(self, *, update_inside: bool) -> SchedulePlan:
        """One sequence, forward and backward; each layer's matrices are updated after it, or
        summed.
        """
        schedule = self.new()
        if self.step.choice is not None:
            schedule.call(self.step.choice.function, self.at(None, 0))
        self._forward(schedule)
        schedule.call(f"{HEAD}_{BACKWARD}", self.at(None, len(self.layers)))
        for k in reversed(self.layers):
            kind, guard = self.kind(k), self.guard(k)
            if self.recomputes(k):
                schedule.call(f"{kind}_{FORWARD}", self.at(k, k, again=True), guard)
            schedule.call(f"{kind}_{BACKWARD}", self.at(k, k, sums=not update_inside), guard)
            # A layer is updated as soon as its gradients are there, so those of one layer alone
            # need memory. No later call of the step reads its matrices.
            if update_inside:
                for matrix in self._matrices(k):
                    self._update(schedule, matrix, sums=False)
        return schedule.build()

    def _matrices(self, layer: int) -> list[Matrix]:
        return [matrix for matrix in self.step.adapters.values() if matrix.layer == layer]

    def _update(self, schedule: ScheduleBuilder, matrix: Matrix, *, sums: bool) -> None:
        bind = self.on(matrix, sums=sums)
        schedule.call(update_name(matrix.shape), bind, self.guard(matrix.layer))

    def update(self) -> SchedulePlan:
        """All matrices, from the sums of the step."""
        schedule = self.new()
        for k in reversed(self.layers):
            for matrix in self._matrices(k):
                self._update(schedule, matrix, sums=True)
        return schedule.build()

    def clip(self) -> SchedulePlan:
        """The norm over all matrices, then the scale, which takes the place of 1 / tokens."""
        schedule = self.new()
        # From the last matrix to the first, as the backward pass makes their gradients. Each sum is
        # rounded, so another order is another norm, and other bits.
        for k in reversed(self.layers):
            for matrix in reversed(self._matrices(k)):
                schedule.call(squares_name(matrix.shape), self.on(matrix), self.guard(k))
        # It has inputs of the step alone, whose buffers are the same everywhere.
        schedule.call(CLIP_SCALE, self.at(None, 0))
        return schedule.build()

    def generate(self, mode: Mode) -> SchedulePlan:
        """The next tokens through the model; new caches are copied over the old ones."""
        # The embedding comes before the blocks: it gives value 0 of the stream, so it takes -1.
        schedule = self.new()
        schedule.call(mode.function("embed"), self.at(None, -1))
        for k in self.layers:
            schedule.call(mode.function(self.kind(k)), self.at(k, k))
        schedule.call(mode.function(HEAD), self.at(None, len(self.layers)))
        return schedule.build()


def schedules_of(step: Step, kept: int | None) -> dict[str, SchedulePlan]:
    """All schedules by name, with `kept` blocks beside the last that keep what their backward needs
    (None: all).
    """
    write = _Schedules(step, kept)
    prepare, prepare_decode = write.prepare()
    built = {
        "prepare": prepare,
        "evaluate": write.evaluate(),
        "prepare_decode": prepare_decode,
        **{mode.name: write.generate(mode) for mode in generation_modes(step.options)},
        "train": write.train(update_inside=True),
        "gradient": write.train(update_inside=False),
        "clip": write.clip(),
        "update": write.update(),
    }
    # A session always runs prepare, if only to let go of what nothing else reads.
    return {name: s for name, s in built.items() if s.calls or name == "prepare"}


@graph_pass(requires=(BUFFERS_LISTED,), ensures=(SCHEDULED, GUARDS_SOUND))
def build_schedules(step: Step) -> Step:
    """Write all schedules, with everything kept."""
    step.plan.schedules = schedules_of(step, None)
    return step
