/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a run: taken from its directory or the bundle, hashed after each step, and saved. It
 * trusts no saved file: tensors.c checks its header, and open_run its bundle, tensors and step. Any
 * integers are a valid state, so the values themselves need no check. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "lock.h"
#include "log.h"
#include "memory.h"
#include "replacement.h"
#include "threads.h"

/* What to do about a state that is damaged. A new run is the last resort. */
static const char DAMAGED[] =
    "put a copy of the file back (" BEST_FILE ", if the run has one, is a state too), or start a "
    "new run with another --run";

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
    if (!end || *end || step > MAXIMUM_STEP) fail(DAMAGED, "%s does not say its step", file->path);
    return step;
}

static void take_saved_state(run *r) {
    const plan *p = &r->bundle->plan;
    const char *path = take_path(r->folder.path, STATE_FILE);
    tensor_file file;
    mapping map;
    if (!read_file(&map, r->folder.descriptor, STATE_FILE,
                   p->buffer_bytes + MAXIMUM_HEADER_BYTES + ALIGNMENT))
        fail(errno == EFBIG ? DAMAGED : READABLE, "cannot read %s: %s", path,
             file_problem(r->folder.descriptor, STATE_FILE));
    open_tensors(&file, path, map, DAMAGED);
    const char *owner = tensor_metadata(&file, "bundle");
    if (!owner || strcmp(owner, r->bundle->meaning))
        fail(NEW_RUN, "%s is the state of another bundle", path);
    if (yyjson_obj_size(file.header) != r->state_count + 1u)
        fail(DAMAGED, "%s does not hold the tensors of this bundle", path);
    copy_state(r, &file);
    r->step = r->saved = read_step(&file);
    unmap(&map);
}

static void note_save(run *r) {
    if (fstatat(r->folder.descriptor, STATE_FILE, &r->last_save, AT_SYMLINK_NOFOLLOW))
        r->last_save = (struct stat){0};
}

void open_run(run *r, const char *path, bundle *b) {
    const plan *p = &b->plan;
    *r = (run){.bundle = b, .state = take(p->buffers.count, sizeof(tensor *))};
    for (uint32_t k = 0; k < p->buffers.count; k++)
        if (p->buffers.items[k].kind == STATE) r->state[r->state_count++] = &p->buffers.items[k];
    r->lock = lock_run(&r->folder, path);
    bool is_begun = is_there(r->folder.descriptor, STATE_FILE);
    read_config(r, is_begun);
    tensor_file file;
    mapping *initial = bundle_content(b, INITIAL_STATE_FILE);
    if (is_begun) take_saved_state(r);
    else {
        open_tensors(&file, INITIAL_STATE_FILE, *initial, AGAIN);
        copy_state(r, &file);
    }
    unmap(initial);
    note_save(r);
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

/* Whether the saved state is the one that this process wrote or began with. */
static bool is_own_save(const run *r) {
    struct stat now;
    if (fstatat(r->folder.descriptor, STATE_FILE, &now, AT_SYMLINK_NOFOLLOW)) return true;
    return now.st_ino == r->last_save.st_ino && now.st_dev == r->last_save.st_dev &&
           now.st_mtim.tv_sec == r->last_save.st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == r->last_save.st_mtim.tv_nsec;
}

void save_run(run *r, bool must) {
    if (r->step > r->saved) {
        if (!keep_lock(&r->folder, &r->lock) && !is_own_save(r))
            fail("see which of the two runs to keep, and give the other its own --run",
                 "the lock of %s was deleted, and another process has saved steps there; the steps "
                 "since the last save are not saved",
                 r->folder.path);
        if (write_tensors(&r->folder, STATE_FILE, r->state, r->state_count, r->step,
                          r->bundle->meaning)) {
            r->saved = r->step;
            note_save(r);
        } else if (must) fail_write(&r->folder, STATE_FILE);
        else warn_write(&r->folder, STATE_FILE);
    }
    if (must && !flush_log(&r->folder)) fail_write(&r->folder, LOG_FILE);
}
