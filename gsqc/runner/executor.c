/* SPDX-License-Identifier: Apache-2.0 */
/* Lays a plan's tensors out in memory and runs its schedules. It trusts the plan: plan.c and
 * plan_calls.c have checked every reference, so none is checked here. */
#include "executor.h"

#include <string.h>

#include "error.h"
#include "kernels.h"
#include "memory.h"

/* When kernels have read this much of the base its pages are released: others are read next. */
static const uint64_t RELEASE_BYTES = 1 << 20;

void prepare_executor(executor *e, bundle *b) {
    plan *p = &b->plan;
    *e = (executor){.plan = p};
    open_tensors(&e->base, b->base.path, b->base.map, AGAIN);
    e->arena = take(p->arena_bytes, 1);
    for (uint32_t k = 0; k < p->buffers.count; k++) {
        tensor *t = &p->buffers.items[k];
        t->address = t->kind == BASE ? tensor_data(&e->base, t->name, t->item_bytes, t->count)
                                     : take(t->count, t->item_bytes);
    }
}

static unsigned char *outer_address(const executor *e, const schedule *s, const reference *r) {
    const tensor *t = r->target;
    unsigned char *start =
        t->kind == ACTIVATION ? e->arena + s->scratch_bytes + t->offset : t->address;
    return start + r->offset * t->item_bytes;
}

static void run_kernel(executor *e, const schedule *s, const function_call *call,
                       const kernel_call *inner) {
    array arrays[MAXIMUM_ARGUMENTS];
    for (uint32_t k = 0; k < inner->count; k++) {
        const reference *r = &inner->arguments[k];
        const tensor *t = r->target;
        const reference *bound = t->kind == PORT ? &call->bindings[t->slot] : NULL;
        unsigned char *start = bound ? outer_address(e, s, bound) : e->arena + t->offset;
        arrays[k] = (array){start + r->offset * t->item_bytes, r->count, t->item_bytes};
        if (bound && bound->target->kind == BASE) e->frozen_bytes += r->count * t->item_bytes;
    }
    call_kernel(inner->kernel, arrays, inner->count);
    uint32_t inputs = inner->kernel->input_count;
    if (e->trace) trace_call(e->trace, inner->kernel->name, arrays + inputs, inner->count - inputs);
    if (e->frozen_bytes >= RELEASE_BYTES) {
        release_pages(&e->base);
        e->frozen_bytes = 0;
    }
}

static bool is_left_out(const executor *e, const schedule *s, const function_call *call) {
    return call->guard.target && !*(const int32_t *)(void *)outer_address(e, s, &call->guard);
}

void run_schedule(executor *e, const schedule *s) {
    for (uint32_t c = 0; c < s->call_count; c++) {
        const function_call *call = &s->calls[c];
        if (is_left_out(e, s, call)) continue;
        if (!call->function) {
            const reference *r = call->bindings;
            array copy = {outer_address(e, s, &r[COPY_TARGET]), r->count, r->target->item_bytes};
            memmove(copy.data, outer_address(e, s, &r[COPY_SOURCE]),
                    r->count * r->target->item_bytes);
            if (e->trace) trace_call(e->trace, COPY_NAME, &copy, 1);
            continue;
        }
        for (uint32_t k = 0; k < call->function->call_count; k++)
            run_kernel(e, s, call, &call->function->calls[k]);
    }
}

void clear_gradients(executor *e) {
    for (uint32_t k = 0; k < e->plan->buffers.count; k++) {
        const tensor *t = &e->plan->buffers.items[k];
        if (t->kind == GRADIENT) memset(t->address, 0, t->count * t->item_bytes);
    }
}
