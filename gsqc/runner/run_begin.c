/* SPDX-License-Identifier: Apache-2.0 */
/* The begin of a run: the bundle and the settings that it belongs to, and a log that ends where the
 * state does. It trusts nothing in the directory, but relies on the lock: no other
 * process changes the files. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "log.h"
#include "memory.h"
#include "replacement.h"
#include "run.h"

/* What to do about a config that is missing or damaged. The state beside it may be whole. */
static const char DAMAGED[] =
    "put a copy of the file back, or start a new run with another --run";

static const char *const FIXED[] = {FIXED_SETTINGS}, *const IF_GIVEN[] = {FIXED_IF_GIVEN};
static const char *const BY_SCHEDULE[] = {FIXED_BY_SCHEDULE};

static void check_owner(const run *r) {
    yyjson_val *version = yyjson_obj_get(r->config, "format_version");
    uint64_t number = yyjson_is_uint(version) ? yyjson_get_uint(version) : !version;
    if (number != RUN_FORMAT)
        fail("use the gsqc and the bundle that began it, or start a new run with another --run",
             "the run directory %s has format %" PRIu64 ", this gsqc-step goes on with format %d",
             r->folder.path, number, RUN_FORMAT);
    if (!yyjson_equals_str(yyjson_obj_get(r->config, "bundle"), r->bundle->meaning))
        fail("use that bundle, or start a new run with another --run",
             "the run directory %s belongs to another bundle", r->folder.path);
}

void read_config(run *r, bool is_begun) {
    int place = r->folder.descriptor;
    const char *path = take_path(r->folder.path, CONFIG_FILE);
    mapping map;
    if (!is_there(place, CONFIG_FILE)) {
        if (is_begun) fail(DAMAGED, "%s has a state but no %s", r->folder.path, CONFIG_FILE);
        return;
    }
    if (!read_file(&map, place, CONFIG_FILE, MAXIMUM_JSON_BYTES))
        fail(READABLE, "cannot read %s: %s", path, file_problem(place, CONFIG_FILE));
    const json_source source = {path, DAMAGED};
    r->config = json_read(&source, (const char *)map.data, map.size);
    unmap(&map);
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
             "%s has steps with another %s", r->folder.path, changed);
}

static void put_text(yyjson_mut_doc *document, yyjson_mut_val *object, const char *name,
                     const char *text) {
    yyjson_mut_obj_put(object, yyjson_mut_str(document, name), yyjson_mut_str(document, text));
}

static void write_config(const run *r, yyjson_val *settings) {
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
    if (!text) fail("free some memory", "not enough memory to write %s", CONFIG_FILE);
    replacement file;
    begin_replacement(&file, &r->folder, CONFIG_FILE);
    write_replacement(&file, text, length);
    free(text);
    if (!finish_replacement(&file)) fail_write(&r->folder, CONFIG_FILE);
}

void begin_run(run *r, const char *text) {
    const json_source source =
        {"the token file's settings", "make it for this bundle with gsqc tokens"};
    yyjson_val *settings = json_read(&source, text, strlen(text));
    check_settings(r, settings);
    remove_left_over(&r->folder);
    write_config(r, settings);
    resume_log(&r->folder, r->step);
}
