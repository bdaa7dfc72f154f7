/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a bundle. It trusts only that the user chose this bundle: whoever wrote the manifest also
 * chose the hashes. Each file must have the size and hash that the manifest gives, and must lie
 * inside the bundle. After that, other files read manifest fields without asking for their type. */
#include "bundle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "fields.h"
#include "memory.h"
#include "targets.h"

static const char *const MADE_FOLDERS[] = {MADE_FROM_THE_PLAN};
static const json_source SOURCE = {"the bundle's manifest", AGAIN};

static bool is_directory(const char *path) {
    struct stat status;
    return !stat(path, &status) && S_ISDIR(status.st_mode);
}

/* The path of a file in the bundle. Fails unless its name is relative, has no "..", and leads over
 * no link. */
static char *safe_path(const char *root, const char *name) {
    bool safe = *name && *name != '/' && !strchr(name, '\\');
    for (const char *c = name; *c; c++) safe = safe && (unsigned char)*c >= ' ';
    for (const char *part = name; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
        if (!strncmp(part, "..", 2) && (!part[2] || part[2] == '/')) safe = false;
    if (!safe) fail(AGAIN, "the manifest names a file outside the bundle: '%s'", name);
    char *path = take_path(root, name);
    for (char *c = path + strlen(root) + 1;; c++) {
        if (*c && *c != '/') continue;
        char kept = *c;
        struct stat status;
        *c = 0;
        if (!lstat(path, &status) && S_ISLNK(status.st_mode))
            fail(AGAIN, "%s is a link, and a bundle holds plain files", name);
        *c = kept;
        if (!kept) return path;
    }
}

static void check_file(const bundle *b, const char *name, yyjson_val *entry) {
    const char *path = safe_path(b->path, name);
    const char *expected = json_text(&SOURCE, yyjson_obj_get(entry, "sha256"), name);
    uint64_t bytes = json_count(&SOURCE, yyjson_obj_get(entry, "bytes"), name, INT64_MAX);
    mapping map;
    char hash[HASH_TEXT];
    if (!is_file(path)) fail(AGAIN, "the bundle lacks its file %s", name);
    if (!map_file(path, &map))
        fail("check its permissions", "cannot read the bundle's %s: %s", name, strerror(errno));
    bool same = map.size == bytes;
    if (same) hash_bytes(hash, map.data, map.size);
    same = same && !strcmp(hash, expected);
    unmap_file(&map);
    if (!same) fail(AGAIN, "%s was changed since the bundle was written (its hash differs)", name);
}

static void check_files(const bundle *b) {
    size_t position, last;
    yyjson_val *key, *value;
    yyjson_obj_foreach(yyjson_obj_get(b->manifest, "files"), position, last, key, value)
        check_file(b, json_text(&SOURCE, key, "a file's name"), value);
}

static bool is_made_from_the_plan(const char *name) {
    for (size_t k = 0; k < sizeof MADE_FOLDERS / sizeof *MADE_FOLDERS; k++)
        if (!strncmp(name, MADE_FOLDERS[k], strlen(MADE_FOLDERS[k]))) return true;
    return false;
}

typedef struct {
    const char *name, *hash;
} line;

static int by_name(const void *a, const void *b) {
    return strcmp(((const line *)a)->name, ((const line *)b)->name);
}

/* Python computes the same (gsqc/bundle/files.py). The code is no part of the meaning, so a run can
 * move from one target to another. */
static void find_meaning(bundle *b, yyjson_val *files) {
    line *lines = take(yyjson_obj_size(files), sizeof *lines);
    size_t count = 0, size = 0, position, last;
    char *text = NULL;
    yyjson_val *key, *value;
    yyjson_obj_foreach(files, position, last, key, value)
        if (!is_made_from_the_plan(yyjson_get_str(key)))
            lines[count++] =
                (line){yyjson_get_str(key), yyjson_get_str(yyjson_obj_get(value, "sha256"))};
    if (count) qsort(lines, count, sizeof *lines, by_name);
    FILE *file = open_memstream(&text, &size);
    for (size_t k = 0; file && k < count; k++)
        fprintf(file, "%s %s\n", lines[k].name, lines[k].hash);
    if (!file || fclose(file)) fail("free some memory", "not enough memory to open the bundle");
    hash_bytes(b->meaning, text, size);
    free(text);
}

void read_manifest(bundle *b, const char *text, size_t length) {
    b->manifest = json_read(&SOURCE, text, length);
    yyjson_val *version = yyjson_obj_get(b->manifest, "format_version");
    uint64_t number = yyjson_is_uint(version) ? yyjson_get_uint(version) : 0;
    if (number != FORMAT_VERSION)
        fail("compile the model again, or install the gsqc that wrote the bundle",
             "the bundle has format %" PRIu64 ", this gsqc-step reads format %d", number,
             FORMAT_VERSION);
    check_manifest(&SOURCE, b->manifest);
    yyjson_val *model = yyjson_obj_get(b->manifest, "model");
    b->sequence_length =
        (uint32_t)yyjson_get_uint(yyjson_obj_get(b->manifest, "sequence_length"));
    b->vocabulary = (uint32_t)yyjson_get_uint(yyjson_obj_get(model, "vocabulary"));
    find_meaning(b, yyjson_obj_get(b->manifest, "files"));
}

static mapping map_json(const char *path, const char *what) {
    mapping map;
    if (!map_file(path, &map))
        fail("check its permissions", "cannot read %s: %s", path, strerror(errno));
    if (map.size > MAXIMUM_JSON_BYTES) fail(AGAIN, "%s is larger than any that gsqc writes", what);
    return map;
}

void open_bundle(bundle *b, const char *path, const char *target) {
    struct stat status;
    b->path = path;
    const char *file = take_path(path, MANIFEST_FILE);
    if (stat(path, &status))
        fail("make one with gsqc compile MODEL -o NAME.gsqc", "no such bundle: %s", path);
    if (!is_directory(path) || !is_file(file))
        fail("give a directory that gsqc compile wrote", "%s is not a bundle: it has no %s", path,
             MANIFEST_FILE);
    mapping map = map_json(file, SOURCE.what);
    read_manifest(b, (const char *)map.data, map.size);
    unmap_file(&map);
    check_files(b);
    b->target = choose_target(yyjson_obj_get(b->manifest, "targets"), target);
    map = map_json(bundle_file(b, PLAN_FILE), plan_source.what);
    read_plan(&b->plan, json_read(&plan_source, (const char *)map.data, map.size));
    unmap_file(&map);
}

const char *bundle_hash(const bundle *b, const char *name) {
    return yyjson_get_str(yyjson_obj_get(yyjson_obj_get(yyjson_obj_get(b->manifest, "files"), name),
                                         "sha256"));
}

const char *bundle_file(const bundle *b, const char *name) {
    if (!bundle_hash(b, name)) fail(AGAIN, "the bundle has no %s", name);
    return take_path(b->path, name);
}
