/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a run: taken from its directory or the bundle, hashed after each step, and saved. It
 * trusts no saved file: tensors.c checks its header, and open_run its bundle, tensors and step. Any
 * integers are a valid state, so the values themselves need no check. */
#include "run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "memory.h"
#include "threads.h"

static void copy_state(run *r, const tensor_file *file) {
    for (uint32_t k = 0; k < r->state_count; k++) {
        tensor *t = r->state[k];
        memcpy(t->address, tensor_data(file, t->name, t->item_bytes, t->count),
               t->count * t->item_bytes);
    }
}

static uint64_t read_step(const tensor_file *file) {
    const char *text = tensor_metadata(file, "step");
    char *end = NULL;
    uint64_t step = text && *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : 0;
    if (!end || *end || step > MAXIMUM_STEP) fail(NEW_RUN, "%s does not say its step", file->path);
    return step;
}

void open_run(run *r, const char *path, const bundle *b) {
    const plan *p = &b->plan;
    *r = (run){.path = path, .bundle = b, .state = take(p->buffers.count, sizeof(tensor *))};
    for (uint32_t k = 0; k < p->buffers.count; k++)
        if (p->buffers.items[k].kind == STATE) r->state[r->state_count++] = &p->buffers.items[k];
    tensor_file file;
    const char *saved = take_path(path, STATE_FILE);
    bool is_begun = is_file(saved);
    read_config(r, is_begun);
    if (!is_begun) {
        open_tensors(&file, bundle_file(b, INITIAL_STATE_FILE), AGAIN);
        copy_state(r, &file);
        return;
    }
    open_tensors(&file, saved, NEW_RUN);
    const char *owner = tensor_metadata(&file, "bundle");
    if (!owner || strcmp(owner, b->meaning))
        fail(NEW_RUN, "%s is the state of another bundle", saved);
    if (yyjson_obj_size(file.header) != r->state_count + 1u)
        fail(NEW_RUN, "%s does not hold the tensors of this bundle", saved);
    copy_state(r, &file);
    r->step = read_step(&file);
}

typedef struct {
    const run *run;
    char (*hashes)[HASH_TEXT];
} hashing;

static int hash_tensor(int number, int count, void *data) {
    (void)count;
    hashing *h = data;
    const tensor *t = h->run->state[number];
    hash_bytes(h->hashes[number], t->address, t->count * t->item_bytes);
    return 0;
}

void state_digest(const run *r, char digest[HASH_TEXT]) {
    static const char *const types[] = {"", "|i1", "<i2", "", "<i4"}; /* numpy's names, by size */
    hashing h = {r, malloc((r->state_count + 1u) * sizeof *h.hashes)};
    char *text = NULL;
    size_t size = 0;
    FILE *lines = open_memstream(&text, &size);
    if (!h.hashes || !lines) fail("free some memory", "not enough memory for the digest");
    run_tasks(hash_tensor, (int)r->state_count, &h);
    fprintf(lines, "step %" PRIu64, r->step);
    for (uint32_t k = 0; k < r->state_count; k++) {
        const tensor *t = r->state[k];
        fprintf(lines, "\n%s %s %" PRIu64 " %s", t->name, types[t->item_bytes], t->count,
                h.hashes[k]);
    }
    if (fclose(lines)) fail("free some memory", "not enough memory for the digest");
    hash_bytes(digest, text, size);
    free(text);
    free(h.hashes);
}

void save_run(const run *r) {
    write_tensors(take_path(r->path, STATE_FILE), r->state, r->state_count, r->step,
                  r->bundle->meaning);
}

void append_log(const run *r, const log_entry *e) {
    const char *path = take_path(r->path, LOG_FILE);
    FILE *file = fopen(path, "a");
    if (!file) fail_write(path);
    int written = fprintf(file,
                          "{\"step\": %" PRIu64 ", \"loss\": %.17g, \"tokens_per_second\": %.17g, "
                          "\"peak_rss_bytes\": %" PRIu64 ", \"digest\": \"%s\"}\n",
                          e->step, e->loss, e->tokens_per_second, e->peak_bytes, e->digest);
    if (fclose(file) || written < 0) fail_write(path);
}
