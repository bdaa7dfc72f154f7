/* SPDX-License-Identifier: Apache-2.0 */
/* gsqc-step: trains a bundle on a token file, without Python. All that it reads is checked before
 * the first step: the bundle, its plan, the token file and the run directory. It trusts the
 * bundle's kernels, which are native code and run with the rights of the user. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "batches.h"
#include "error.h"
#include "executor.h"
#include "kernels.h"
#include "log.h"
#include "machine.h"
#include "process.h"
#include "requirements.h"
#include "run.h"
#include "targets.h"
#include "threads.h"

enum { SIGNAL_EXIT = 128 };

static const char USAGE[] =
    "usage: gsqc-step BUNDLE --tokens FILE --run DIR [--steps N] [--threads N] [--save-every N]\n"
    "  FILE is what gsqc tokens wrote. DIR holds the run, and is resumed.\n"
    "  --steps N in all (default: the file's)\n"
    "  --target NAME runs this target's code (default: the best one for this machine)\n"
    "  --trace FILE writes the sha256 of every call's results.\n"
    "  --trace-call N writes the results of call N too, to FILE.values.\n";

typedef struct {
    const char *bundle, *tokens, *run, *trace, *target;
    uint64_t steps, threads, save_every, trace_call;
} options;

/* What a step uses, looked up once. */
typedef struct {
    executor executor;
    const schedule *train, *gradient, *clip, *update;
    int32_t *parts[SEQUENCE_PARTS], *inputs[STEP_INPUTS], *loss;
    int32_t *step_number; /* NULL if the plan does not ask for it */
    const batches *batches;
} trainer;

static uint64_t parse_number(const char *name, const char *text, uint64_t limit) {
    char *end = NULL;
    errno = 0;
    uint64_t value = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (!value || errno || *end || value > limit)
        fail("gsqc-step --help", "--%s is '%s', not a number from 1 to %" PRIu64, name, text,
             limit);
    return value;
}

static options parse_options(int count, char **arguments) {
    int cores = machine_cores();
    options o = {.threads = cores < MAXIMUM_THREADS ? (uint64_t)cores : MAXIMUM_THREADS,
                 .save_every = 20};
    static const struct option known[] = {
        {"tokens", required_argument, NULL, 't'},  {"run", required_argument, NULL, 'r'},
        {"steps", required_argument, NULL, 's'},   {"threads", required_argument, NULL, 'j'},
        {"save-every", required_argument, NULL, 'e'}, {"help", no_argument, NULL, 'h'},
        {"trace", required_argument, NULL, 'c'},   {"trace-call", required_argument, NULL, 'n'},
        {"target", required_argument, NULL, 'm'},
        {NULL, 0, NULL, 0}};
    opterr = 0;
    for (int c, which = 0; (c = getopt_long(count, arguments, "", known, &which)) != -1;) {
        if (c == 't') o.tokens = optarg;
        else if (c == 'r') o.run = optarg;
        else if (c == 's') o.steps = parse_number("steps", optarg, MAXIMUM_STEPS);
        else if (c == 'j') o.threads = parse_number("threads", optarg, MAXIMUM_THREADS);
        else if (c == 'e') o.save_every = parse_number("save-every", optarg, MAXIMUM_STEPS);
        else if (c == 'c') o.trace = optarg;
        else if (c == 'm') o.target = optarg;
        else if (c == 'n') o.trace_call = parse_number("trace-call", optarg, INT64_MAX);
        else if (c == 'h') {
            if (!say("%s", USAGE)) fail_output("");
            exit(0);
        } else
            fail("gsqc-step --help", "unknown option or missing value: %s",
                 arguments[optind - 1]);
    }
    if (optind != count - 1 || !o.tokens || !o.run)
        fail("gsqc-step --help",
             "gsqc-step takes one bundle, a token file with --tokens and a run with --run");
    o.bundle = arguments[optind];
    return o;
}

static void prepare_trainer(trainer *t, bundle *b, const batches *data) {
    const plan *p = &b->plan;
    t->batches = data;
    t->train = find_schedule(p, "train");
    t->gradient = find_schedule(p, "gradient");
    t->clip = find_schedule(p, "clip");
    t->update = find_schedule(p, "update");
    for (int k = 0; k < SEQUENCE_PARTS; k++) t->parts[k] = buffer_numbers(p, part_names[k]);
    for (int k = 0; k < STEP_INPUTS; k++) t->inputs[k] = buffer_numbers(p, step_inputs[k]);
    t->loss = buffer_numbers(p, LOSS_OUTPUT);
    t->step_number =
        has_input(p, STEP_NUMBER_INPUT) ? buffer_numbers(p, STEP_NUMBER_INPUT) : NULL;
}

/* One optimizer step, number `step` from 0. Adds to the loss (Q16 times Q14) and its weight (Q14).
 * A step of one sequence updates block by block inside its backward pass. A step that clips cannot:
 * the norm needs all gradients. */
static void take_step(trainer *t, uint64_t step, int64_t *loss, int64_t *weight) {
    const batches *b = t->batches;
    for (int k = 0; k < STEP_INPUTS; k++) *t->inputs[k] = b->inputs[k][step];
    if (t->step_number) *t->step_number = (int32_t)((step + 1) & INT32_MAX);
    int clips = b->inputs[CLIP_MANTISSA][step] != 0, sums = clips || b->batch > 1;
    if (sums) clear_gradients(&t->executor);
    for (uint32_t s = 0; s < b->batch; s++) {
        copy_sequence(b, step, s, t->parts);
        run_schedule(&t->executor, sums ? t->gradient : t->train);
        for (uint32_t k = 0; k < b->length; k++) {
            *loss += (int64_t)t->loss[k] * t->parts[WEIGHTS][k];
            *weight += t->parts[WEIGHTS][k];
        }
    }
    if (clips) run_schedule(&t->executor, t->clip);
    if (sums) run_schedule(&t->executor, t->update);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t peak_bytes(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : (uint64_t)usage.ru_maxrss * 1024;
}

/* What a changed file gave cannot be told from what it should have given, so it is not kept. */
static void require_whole_files(const run *r) {
    const char *changed = changed_file();
    if (changed)
        fail("put the whole file back, and run the same command again: it goes on from there",
             "%s was changed while it was used; the steps since are not saved, and the state of "
             "step %" PRIu64 " stands",
             changed, r->saved);
}

/* One step, and its line in the log and on the screen. False if standard output is broken. */
static bool train_step(trainer *t, run *r) {
    int64_t loss = 0, weight = 0;
    char digest[HASH_TEXT];
    double start = now();
    take_step(t, r->step, &loss, &weight);
    r->step++;
    require_whole_files(r);
    /* The log has the digest of every step, so that another run can be compared with it. */
    state_digest(r, digest);
    double tokens = (double)weight / WEIGHT_ONE, seconds = now() - start;
    note_step_seconds(seconds);
    log_entry entry = {r->step, peak_bytes(), (double)loss / ((double)weight * LOSS_ONE),
                       tokens / seconds, digest};
    append_log(&r->folder, &entry);
    return say("step %" PRIu64 "  loss %.4f  digest %s\n", r->step, entry.loss, digest);
}

static void train(trainer *t, run *r, uint64_t steps, uint64_t save_every) {
    bool heard = true;
    while (r->step < steps && heard && !noted_signal()) {
        heard = train_step(t, r);
        if (r->step % save_every == 0) save_run(r, false);
    }
    save_run(r, true);
    if (!heard) fail_output("; the state is saved");
}

static void start_threads(int count) {
    int reason = use_threads(count);
    if (reason)
        fail("use fewer --threads", "cannot start %d threads: %s", count, strerror(reason));
}

int main(int count, char **arguments) {
    prepare_process();
    options o = parse_options(count, arguments);
    bundle b = {0};
    batches data = {0};
    run r;
    trainer t;
    open_bundle(&b, o.bundle, o.target);
    open_batches(&data, &b, o.tokens);
    if (o.steps > data.steps)
        fail("make a longer one with gsqc tokens --steps", "%s holds %" PRIu64 " steps", o.tokens,
             data.steps);
    start_threads((int)o.threads);
    require_session(&b, data.sums);
    prepare_executor(&t.executor, &b);
    prepare_trainer(&t, &b, &data);
    mapping *kernels = bundle_content(&b, code_file(b.target, KERNELS_FILE));
    load_kernels(&b.plan, kernels);
    unmap(kernels);
    open_run(&r, o.run, &b);
    uint64_t steps = o.steps ? o.steps : data.steps;
    if (r.step >= steps) {
        if (!say("%s has %" PRIu64 " of %" PRIu64 " steps: nothing to do\n", o.run, r.step, steps))
            fail_output("");
        return 0;
    }
    begin_run(&r, data.settings);
    run_schedule(&t.executor, find_schedule(&b.plan, "prepare"));
    heed_signals();
    trace calls;
    if (o.trace) {
        open_trace(&calls, o.trace, o.trace_call, &b.plan);
        t.executor.trace = &calls;
    }
    train(&t, &r, steps, o.save_every);
    if (o.trace) close_trace(&calls);
    return noted_signal() ? SIGNAL_EXIT + noted_signal() : 0;
}
