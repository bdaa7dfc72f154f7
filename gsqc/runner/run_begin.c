/* SPDX-License-Identifier: Apache-2.0 */
/* The begin of a run: the lock, the bundle and the settings that it belongs to, and a log that ends
 * where the state does. It trusts nothing in the directory, but relies on the lock: no other
 * process changes the files. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "memory.h"
#include "run.h"

static const char *const FIXED[] = {FIXED_SETTINGS}, *const IF_GIVEN[] = {FIXED_IF_GIVEN};
static const char *const BY_SCHEDULE[] = {FIXED_BY_SCHEDULE};

static void check_owner(const run *r) {
    yyjson_val *version = yyjson_obj_get(r->config, "format_version");
    uint64_t number = yyjson_is_uint(version) ? yyjson_get_uint(version) : !version;
    if (number != RUN_FORMAT)
        fail("use the gsqc and the bundle that began it, or start a new run with another --run",
             "the run directory %s has format %" PRIu64 ", this gsqc-step goes on with format %d",
             r->path, number, RUN_FORMAT);
    if (!yyjson_equals_str(yyjson_obj_get(r->config, "bundle"), r->bundle->meaning))
        fail("use that bundle, or start a new run with another --run",
             "the run directory %s belongs to another bundle", r->path);
}

void read_config(run *r, bool is_begun) {
    const char *path = take_path(r->path, CONFIG_FILE);
    mapping map;
    if (!is_file(path)) {
        if (is_begun) fail(NEW_RUN, "%s has a state but no %s", r->path, CONFIG_FILE);
        return;
    }
    if (!map_file(path, &map)) fail(NEW_RUN, "%s cannot be read (%s)", path, strerror(errno));
    const json_source source = {path, NEW_RUN};
    r->config = json_read(&source, (const char *)map.data, map.size);
    unmap_file(&map);
    check_owner(r);
}

static bool has_changed(yyjson_val *before, yyjson_val *now) {
    return before && !yyjson_equals(before, now);
}

/* Numbers have one spelling in both, so equal settings are equal JSON (training/open_run.py). */
static const char *changed_setting(yyjson_val *old, yyjson_val *settings) {
    for (size_t k = 0; k < sizeof FIXED / sizeof *FIXED; k++)
        if (has_changed(yyjson_obj_get(old, FIXED[k]), yyjson_obj_get(settings, FIXED[k])))
            return FIXED[k];
    for (size_t k = 0; k < sizeof IF_GIVEN / sizeof *IF_GIVEN; k++) {
        yyjson_val *now = yyjson_obj_get(settings, IF_GIVEN[k]);
        if (now && has_changed(yyjson_obj_get(old, IF_GIVEN[k]), now)) return IF_GIVEN[k];
    }
    bool constant = yyjson_equals_str(yyjson_obj_get(settings, "schedule"), "constant");
    for (size_t k = 0; !constant && k < sizeof BY_SCHEDULE / sizeof *BY_SCHEDULE; k++)
        if (has_changed(yyjson_obj_get(old, BY_SCHEDULE[k]),
                        yyjson_obj_get(settings, BY_SCHEDULE[k])))
            return BY_SCHEDULE[k];
    return NULL;
}

static void check_settings(const run *r, yyjson_val *settings) {
    const char *changed = r->step && r->config ? changed_setting(r->config, settings) : NULL;
    if (changed)
        fail("give a token file with the settings that it began with, or start a new run with "
             "another --run",
             "%s has steps with another %s", r->path, changed);
}

static void put_text(yyjson_mut_doc *document, yyjson_mut_val *object, const char *name,
                     const char *text) {
    yyjson_mut_obj_put(object, yyjson_mut_str(document, name), yyjson_mut_str(document, text));
}

static void write_config(const run *r, const char *path, yyjson_val *settings) {
    size_t length;
    yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_val_mut_copy(document, settings);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_put(root, yyjson_mut_str(document, "format_version"),
                       yyjson_mut_uint(document, RUN_FORMAT));
    put_text(document, root, "bundle", r->bundle->meaning);
    put_text(document, root, "bundle_path", r->bundle->path);
    char *text =
        yyjson_mut_write(document, YYJSON_WRITE_PRETTY_TWO_SPACES | YYJSON_WRITE_ESCAPE_UNICODE,
                         &length);
    yyjson_mut_doc_free(document);
    if (!text) fail("free some memory", "not enough memory to write %s", path);
    replacement file;
    begin_replacement(&file, path);
    write_replacement(&file, text, length);
    finish_replacement(&file);
    free(text);
}

/* Steps after the saved one will be made again, so their lines go. A line that a crash cut off goes
 * too. */
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
    const char *file = take_path(path, LOCK_FILE);
    /* The descriptor stays open, and the lock held, until the program ends. */
    int descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0)
        fail("give another directory with --run", "cannot make %s: %s", file, strerror(errno));
    if (flock(descriptor, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK)
            fail("put --run on a local disk", "cannot lock %s: %s", path, strerror(errno));
        char holder[16] = "";
        if (read(descriptor, holder, sizeof holder - 1) < 0) *holder = 0;
        holder[strspn(holder, "0123456789")] = 0;
        fail("wait for it, or give another --run", "%s is being trained by %s %s", path,
             *holder ? "process" : "another process", holder);
    }
    /* The number in the file is for people to read. On a full disk it is missing, and the lock
     * holds all the same. */
    if (!ftruncate(descriptor, 0)) dprintf(descriptor, "%ld\n", (long)getpid());
}

void begin_run(run *r, const char *text) {
    const json_source source =
        {"the token file's settings", "make it for this bundle with gsqc tokens"};
    yyjson_val *settings = json_read(&source, text, strlen(text));
    check_settings(r, settings);
    write_config(r, take_path(r->path, CONFIG_FILE), settings);
    drop_log_lines(r, take_path(r->path, LOG_FILE));
}
