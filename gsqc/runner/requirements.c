/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that a plan has what training needs, and this machine the memory. It trusts that plan.c
 * read the plan, so that every size in it is sound. */
#include "requirements.h"

#include <inttypes.h>
#include <string.h>

#include "error.h"
#include "memory.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const char *const SCHEDULES[] = {SCHEDULE_NAMES}, *const PARTS[] = {SEQUENCE_PART_NAMES};
static const char *const ONES[] = {STEP_INPUT_NAMES};
static const char *const GENERATION[] = {GENERATION_INPUT_NAMES};
static const char *const CHUNKS[] = {CHUNK_INPUT_NAMES}, *const SUMS[] = {NORM_SUM_NAMES};

static void require_buffers(const plan *p, tensor_kind kind, const char *const *names,
                            size_t number, uint64_t count) {
    for (size_t k = 0; k < number; k++) {
        const tensor *t = find_tensor(&p->buffers, names[k]);
        if (!t || t->kind != kind || t->item_bytes != sizeof(int32_t) || t->count != count)
            fail(AGAIN, "the bundle's plan has no buffer %s of %" PRIu64 " int32", names[k], count);
    }
}

bool has_input(const plan *p, const char *name) {
    const tensor *t = find_tensor(&p->buffers, name);
    return t && t->kind == INPUT;
}

static void require_chunk(const plan *p) {
    const tensor *chunk = find_tensor(&p->buffers, CHUNKS[0]);
    uint64_t count = chunk && chunk->kind == INPUT ? chunk->count : 0;
    require_buffers(p, INPUT, CHUNKS, COUNT(CHUNKS), count);
    if (count < 2) fail(AGAIN, "the bundle's plan reads prompts by %" PRIu64 " tokens", count);
}

/* The token file has the numbers of a step for the manifest's optimizer, so the plan must update by
 * that one. */
static void require_optimizer(const plan *p, const char *name) {
    for (uint32_t k = 0; k < p->kernel_count; k++)
        if (!strcmp(p->kernels[k].op, name)) return;
    fail(AGAIN, "the bundle's plan does not update by %s", name);
}

static void require_memory(const plan *p, bool sums) {
    uint64_t needed = p->arena_bytes, there = physical_memory();
    bool beyond = __builtin_add_overflow(needed, p->buffer_bytes, &needed) ||
                  __builtin_add_overflow(needed, sums ? p->gradient_bytes : 0, &needed);
    if (beyond || needed > there)
        fail("compile for a shorter --seq or a smaller --batch, or use a larger machine",
             "the bundle needs %" PRIu64 " MiB of memory and this machine has %" PRIu64,
             beyond ? UINT64_MAX >> 20 : needed >> 20, there >> 20);
}

/* A classifier, which has labels, makes no text. */
static void require_generation(const bundle *b) {
    const plan *p = &b->plan;
    if (yyjson_is_arr(yyjson_obj_get(yyjson_obj_get(b->manifest, "model"), "labels"))) return;
    if (!find_schedule(p, DECODE_SCHEDULE))
        fail(AGAIN, "the bundle's plan has no schedule %s", DECODE_SCHEDULE);
    require_buffers(p, INPUT, GENERATION, COUNT(GENERATION), 1);
}

void require_session(const bundle *b, bool sums) {
    const plan *p = &b->plan;
    static const char *const loss = LOSS_OUTPUT, *const number = STEP_NUMBER_INPUT;
    for (size_t k = 0; k < COUNT(SCHEDULES); k++)
        if (!find_schedule(p, SCHEDULES[k]))
            fail(AGAIN, "the bundle's plan has no schedule %s", SCHEDULES[k]);
    require_generation(b);
    require_optimizer(p, yyjson_get_str(yyjson_obj_get(b->manifest, "optimizer")));
    require_buffers(p, INPUT, PARTS, COUNT(PARTS), b->sequence_length);
    require_buffers(p, INPUT, ONES, COUNT(ONES), 1);
    if (has_input(p, number)) require_buffers(p, INPUT, &number, 1, 1);
    if (find_schedule(p, PREFILL_SCHEDULE)) require_chunk(p);
    require_buffers(p, OUTPUT, &loss, 1, b->sequence_length);
    require_buffers(p, GRADIENT, SUMS, COUNT(SUMS), 1);
    require_memory(p, sums);
}

int32_t *buffer_numbers(const plan *p, const char *name) {
    return (int32_t *)(void *)find_tensor(&p->buffers, name)->address;
}
