/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: whatever the bytes are, reading them ends with a plan or a sentence. A plan that is
 * accepted is walked: every reference that a step would follow must lie inside its tensor. */
#include <setjmp.h>
#include <stdlib.h>

#include "error.h"
#include "memory.h"
#include "plan.h"

static jmp_buf back;

static void refuse(const char *line) {
    (void)line;
    longjmp(back, 1);
}

static void require(bool holds) {
    if (!holds) abort();
}

static void walk_reference(const reference *r, const shape *expected) {
    require(r->target && r->offset + r->count <= r->target->count);
    require(!expected ||
            (expected->count == r->count && expected->item_bytes == r->target->item_bytes));
}

static void walk(const plan *p) {
    for (uint32_t f = 0; f < p->function_count; f++)
        for (uint32_t c = 0; c < p->functions[f].call_count; c++) {
            const kernel_call *call = &p->functions[f].calls[c];
            for (uint32_t k = 0; k < call->count; k++)
                walk_reference(&call->arguments[k],
                               k < call->kernel->input_count ? &call->kernel->inputs[k] : NULL);
        }
    for (uint32_t s = 0; s < p->schedule_count; s++)
        for (uint32_t c = 0; c < p->schedules[s].call_count; c++) {
            const function_call *call = &p->schedules[s].calls[c];
            for (uint32_t k = 0; k < (call->function ? call->function->ports : 2); k++)
                walk_reference(&call->bindings[k], NULL);
            const shape number = {sizeof(int32_t), 1};
            if (call->guard.target) walk_reference(&call->guard, &number);
            require(!call->function ||
                    call->function->scratch_bytes <= p->schedules[s].scratch_bytes);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static plan p; /* not a local variable: its value must survive the jump */
    p = (plan){0};
    on_failure = refuse;
    if (!setjmp(back)) {
        read_plan(&p, json_read(&plan_source, (const char *)data, size));
        walk(&p);
    }
    release_memory();
    return 0;
}
