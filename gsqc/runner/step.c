/* SPDX-License-Identifier: Apache-2.0 */
/* Takes steps on the schedules of a plan. It trusts the plan and the batches, which were checked:
 * requirements.c has found every schedule and buffer that is looked up here. */
#include "step.h"

#include <string.h>

#include "requirements.h"

enum { NOISE_STEP, NOISE_QUERY, NOISE_TIMES };

/* A difference of losses and a factor of 30 bits do not fit 64. */
__extension__ typedef __int128 wide;

static int32_t *numbers_if_there(const plan *p, const char *name) {
    return has_input(p, name) ? buffer_numbers(p, name) : NULL;
}

void prepare_trainer(trainer *t, bundle *b, const batches *data) {
    static const char *const noise[NOISE_INPUTS] = {NOISE_INPUT_NAMES};
    const plan *p = &b->plan;
    t->batches = data;
    t->train = find_schedule(p, "train");
    t->gradient = find_schedule(p, "gradient");
    t->clip = find_schedule(p, "clip");
    t->update = find_schedule(p, "update");
    t->evaluate = find_schedule(p, "evaluate");
    t->perturb = find_schedule(p, "perturb");
    for (int k = 0; k < SEQUENCE_PARTS; k++) t->parts[k] = buffer_numbers(p, part_names[k]);
    for (int k = 0; k < STEP_INPUTS; k++) t->inputs[k] = numbers_if_there(p, step_inputs[k]);
    t->loss = buffer_numbers(p, LOSS_OUTPUT);
    t->step_number = numbers_if_there(p, STEP_NUMBER_INPUT);
    t->queries = 0;
    if (!steps_forward(b)) return;
    for (int k = 0; k < NOISE_INPUTS; k++) t->noise[k] = buffer_numbers(p, noise[k]);
    t->moves = buffer_numbers(p, MOVES_INPUT);
    t->queries = (uint32_t)find_tensor(&p->buffers, MOVES_INPUT)->count;
}

/* Run a schedule on each sequence of a step: the weighted loss. */
static int64_t run_batch(trainer *t, uint64_t step, const schedule *s, int64_t *weight) {
    const batches *b = t->batches;
    int64_t loss = 0;
    *weight = 0;
    for (uint32_t k = 0; k < b->batch; k++) {
        copy_sequence(b, step, k, t->parts);
        run_schedule(&t->executor, s);
        for (uint32_t i = 0; i < b->length; i++) {
            loss += (int64_t)t->loss[i] * t->parts[WEIGHTS][i];
            *weight += t->parts[WEIGHTS][i];
        }
    }
    return loss;
}

/* A step of one sequence updates block by block inside its backward pass. A step that clips cannot:
 * the norm needs all gradients. */
static void step_by_gradients(trainer *t, uint64_t step, outcome *found) {
    const batches *b = t->batches;
    int clips = b->inputs[CLIP_MANTISSA][step] != 0, sums = clips || b->batch > 1;
    if (sums) clear_gradients(&t->executor);
    found->runs = 1;
    found->loss = run_batch(t, step, sums ? t->gradient : t->train, &found->weight);
    if (clips) run_schedule(&t->executor, t->clip);
    if (sums) run_schedule(&t->executor, t->update);
}

/* difference * m * 2^e, rounded half up, and at most `limit` in size. */
static int32_t move_of(int64_t difference, int32_t m, int32_t e, int32_t limit) {
    wide value = (wide)difference * m;
    /* Beyond 31 bits to the left all but 0 saturate. Beyond 126 to the right nothing is left. */
    if (e >= 0) value *= (wide)1 << (e < 31 ? e : 31);
    else value = ((value >> (-e - 1 < 126 ? -e - 1 : 126)) + 1) >> 1;
    return (int32_t)(value > limit ? limit : value < -limit ? -limit : value);
}

static void perturb(trainer *t, int32_t times) {
    *t->noise[NOISE_TIMES] = times;
    run_schedule(&t->executor, t->perturb);
}

/* The loss at both ends of each query, and one update. */
static void step_forward(trainer *t, uint64_t step, outcome *found) {
    const batches *b = t->batches;
    int32_t limit = LARGEST_MOVE / (int32_t)t->queries;
    int32_t m = b->inputs[RATE_MANTISSA][step], e = b->inputs[RATE_MANTISSA + 1][step];
    found->runs = 2 * t->queries;
    found->queries = t->queries;
    for (uint32_t k = 0; k < t->queries; k++) {
        *t->noise[NOISE_QUERY] = (int32_t)k;
        perturb(t, 1);
        int64_t up = run_batch(t, step, t->evaluate, &found->weight);
        perturb(t, -2);
        int64_t down = run_batch(t, step, t->evaluate, &found->weight);
        perturb(t, 1);
        found->loss += up + down;
        found->differences[k] = up - down;
        t->moves[k] = move_of(up - down, m, e, limit);
    }
    run_schedule(&t->executor, t->update);
}

void take_step(trainer *t, uint64_t step, outcome *found) {
    *found = (outcome){0};
    for (int k = 0; k < STEP_INPUTS; k++)
        if (t->inputs[k]) *t->inputs[k] = t->batches->inputs[k][step];
    if (t->step_number) *t->step_number = (int32_t)((step + 1) & INT32_MAX);
    if (t->queries) step_forward(t, step, found);
    else step_by_gradients(t, step, found);
}
