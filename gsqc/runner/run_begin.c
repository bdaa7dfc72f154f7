/* SPDX-License-Identifier: Apache-2.0 */
/* How a run begins: whose it is, with which settings, and a log that ends where the state does. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "memory.h"
#include "run.h"

/* What a resumed run must share with its beginning, to be the same run. As in gsqc/training/open_run.py. */
static const char *const FIXED[] = {"data_sha256", "mask_prompt", "packing", "held_out_share", "seed",
                                    "lr",          "warmup",      "schedule", "min_lr",        "weight_decay",
                                    "clip",        "sequences_per_step", "steps"};

static void check_settings(const run *r, yyjson_val *old, yyjson_val *settings) {
    yyjson_val *owner = yyjson_obj_get(old, "bundle");
    if (owner && !yyjson_equals_str(owner, r->bundle->id))
        fail("use that bundle, or start a new run with another --run", "the run directory %s belongs to another bundle",
             r->path);
    size_t count = sizeof FIXED / sizeof *FIXED;
    if (yyjson_equals_str(yyjson_obj_get(settings, "schedule"), "constant")) count--; /* the others depend on the steps */
    for (size_t k = 0; r->step && k < count; k++) {
        yyjson_val *before = yyjson_obj_get(old, FIXED[k]), *now = yyjson_obj_get(settings, FIXED[k]);
        if (before && !yyjson_equals(before, now))
            fail("give a token file with the settings that it began with, or start a new run with another --run",
                 "%s has steps with another %s", r->path, FIXED[k]);
    }
}

static void check_config(const run *r, const char *path, yyjson_val *settings) {
    mapping map;
    if (!is_file(path)) {
        if (r->step) fail(NEW_RUN, "%s has a state but no config.json", r->path);
        return;
    }
    if (!map_file(path, &map)) fail(NEW_RUN, "%s cannot be read (%s)", path, strerror(errno));
    const json_source source = {path, NEW_RUN};
    yyjson_val *old = json_read(&source, (const char *)map.data, map.size);
    unmap_file(&map);
    check_settings(r, old, settings);
}

static void write_config(const run *r, const char *path, yyjson_val *settings) {
    size_t length;
    yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_val_mut_copy(document, settings);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_str(document, root, "bundle", r->bundle->id);
    yyjson_mut_obj_add_str(document, root, "bundle_path", r->bundle->path);
    char *text = yyjson_mut_write(document, YYJSON_WRITE_PRETTY_TWO_SPACES | YYJSON_WRITE_ESCAPE_UNICODE, &length);
    yyjson_mut_doc_free(document);
    if (!text) fail("free some memory", "not enough memory to write %s", path);
    replacement file;
    begin_replacement(&file, path);
    write_replacement(&file, text, length);
    finish_replacement(&file);
    free(text);
}

/* Steps after the saved one were not saved and will be made again. */
static void drop_log_lines(const run *r, const char *path) {
    mapping map;
    if (!is_file(path)) return;
    if (!map_file(path, &map)) fail(NEW_RUN, "%s cannot be read (%s)", path, strerror(errno));
    replacement file;
    begin_replacement(&file, path);
    for (uint64_t start = 0; start < map.size;) {
        const char *line = (const char *)map.data + start;
        const char *end = memchr(line, '\n', map.size - start);
        size_t length = end ? (size_t)(end - line) : map.size - start;
        yyjson_doc *entry = yyjson_read(line, length, 0);
        yyjson_val *step = yyjson_obj_get(yyjson_doc_get_root(entry), "step");
        if (yyjson_is_uint(step) && yyjson_get_uint(step) <= r->step) {
            write_replacement(&file, line, length);
            write_replacement(&file, "\n", 1);
        }
        yyjson_doc_free(entry);
        start += length + 1;
    }
    finish_replacement(&file);
    unmap_file(&map);
}

static void make_folders(const char *path) {
    char *folder = take_text(path, strlen(path));
    for (char *c = folder + 1;; c++) {
        if (*c && *c != '/') continue;
        char kept = *c;
        *c = 0;
        if (mkdir(folder, 0777) && errno != EEXIST)
            fail("give another directory with --run", "cannot make %s: %s", path, strerror(errno));
        *c = kept;
        if (!kept) return;
    }
}

void lock_run(const char *path) {
    make_folders(path);
    const char *file = take_path(path, "lock");
    int descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666); /* open until the program ends */
    if (descriptor < 0) fail("give another directory with --run", "cannot make %s: %s", file, strerror(errno));
    if (flock(descriptor, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK) fail("put --run on a local disk", "cannot lock %s: %s", path, strerror(errno));
        char holder[16] = "";
        if (read(descriptor, holder, sizeof holder - 1) < 0) *holder = 0;
        holder[strspn(holder, "0123456789")] = 0;
        fail("wait for it, or give another --run", "%s is being trained by %s %s", path,
             *holder ? "process" : "another process", holder);
    }
    /* Who holds it is for people to read; on a full disk the lock holds all the same. */
    if (!ftruncate(descriptor, 0)) dprintf(descriptor, "%ld\n", (long)getpid());
}

void begin_run(run *r, const char *text) {
    const json_source source = {"the token file's settings", "make it for this bundle with gsqc tokens"};
    yyjson_val *settings = json_read(&source, text, strlen(text));
    const char *config = take_path(r->path, "config.json");
    check_config(r, config, settings);
    write_config(r, config, settings);
    drop_log_lines(r, take_path(r->path, "log.jsonl"));
}
