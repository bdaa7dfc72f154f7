/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a bundle. It trusts only that the user chose this bundle: whoever wrote the manifest also
 * chose the hashes. Each file must have the size and hash that the manifest gives, and must lie
 * inside the bundle. What is used is what was hashed: a file is opened once. After that, other
 * files read manifest fields without asking for their type. */
#include "bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "fields.h"
#include "memory.h"
#include "targets.h"

static const char *const MADE_FOLDERS[] = {MADE_FROM_THE_PLAN};
static const json_source SOURCE = {"the bundle's manifest", AGAIN};

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

static read_once *find_content(bundle *b, const char *name) {
    for (int k = 0; k < READ_FILES; k++)
        if (!strcmp(b->files[k].name, name)) return &b->files[k];
    return NULL;
}

static _Noreturn void fail_read(const char *name, const char *path) {
    const char *problem = file_problem(AT_FDCWD, path);
    fail(READABLE, "cannot read the bundle's %s: %s", name, problem);
}

/* The hash of a file's content. The base stays mapped, what is used once stays in memory, and the
 * rest goes. */
static void hash_file(bundle *b, const char *name, const char *path, const input *in,
                      char hash[HASH_TEXT]) {
    read_once *once = find_content(b, name);
    held other, *file = strcmp(name, BASE_FILE) ? &other : &b->base;
    if (once ? !read_input(in, &once->content, physical_memory()) : !hold_file(file, path, in))
        fail_read(name, path);
    if (once) {
        hash_bytes(hash, once->content.data, once->content.size);
        close(in->descriptor);
    } else memcpy(hash, file->hash, HASH_TEXT);
    if (file == &other && !once) drop_file(file);
}

static void check_file(bundle *b, const char *name, yyjson_val *entry) {
    const char *path = safe_path(b->path, name);
    const char *expected = json_text(&SOURCE, yyjson_obj_get(entry, "sha256"), name);
    uint64_t bytes = json_count(&SOURCE, yyjson_obj_get(entry, "bytes"), name, INT64_MAX);
    input in;
    char hash[HASH_TEXT];
    if (!is_there(AT_FDCWD, path)) fail(AGAIN, "the bundle lacks its file %s", name);
    if (!open_input(&in, AT_FDCWD, path, false)) fail_read(name, path);
    bool same = (uint64_t)in.status.st_size == bytes;
    if (same) hash_file(b, name, path, &in, hash);
    if (!same || strcmp(hash, expected))
        fail(AGAIN, "%s was changed since the bundle was written (its hash differs)", name);
}

static void check_files(bundle *b) {
    size_t position, last;
    yyjson_val *key, *value;
    b->files[0].name = PLAN_FILE;
    b->files[1].name = INITIAL_STATE_FILE;
    b->files[2].name = code_file(b->target, KERNELS_FILE);
    yyjson_obj_foreach(yyjson_obj_get(b->manifest, "files"), position, last, key, value)
        check_file(b, json_text(&SOURCE, key, "a file's name"), value);
    if (!b->base.path) fail(AGAIN, "the bundle has no %s", BASE_FILE);
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

static void read_manifest_file(bundle *b, const char *file) {
    mapping map;
    if (!read_file(&map, AT_FDCWD, file, MAXIMUM_JSON_BYTES)) {
        if (errno == EFBIG) fail(AGAIN, "%s is larger than any that gsqc writes", SOURCE.what);
        fail(READABLE, "cannot read %s: %s", file, file_problem(AT_FDCWD, file));
    }
    read_manifest(b, (const char *)map.data, map.size);
    unmap(&map);
}

void open_bundle(bundle *b, const char *path, const char *target) {
    b->path = path;
    const char *file = take_path(path, MANIFEST_FILE);
    if (!is_there(AT_FDCWD, path))
        fail("make one with gsqc compile MODEL -o NAME.gsqc", "no such bundle: %s", path);
    if (!is_there(AT_FDCWD, file))
        fail("give a directory that gsqc compile wrote", "%s is not a bundle: it has no %s", path,
             MANIFEST_FILE);
    read_manifest_file(b, file);
    b->target = choose_target(yyjson_obj_get(b->manifest, "targets"), target);
    check_files(b);
    mapping *map = bundle_content(b, PLAN_FILE);
    if (map->size > MAXIMUM_JSON_BYTES)
        fail(AGAIN, "%s is larger than any that gsqc writes", plan_source.what);
    read_plan(&b->plan, json_read(&plan_source, (const char *)map->data, map->size));
    unmap(map);
}

const char *bundle_hash(const bundle *b, const char *name) {
    return yyjson_get_str(yyjson_obj_get(yyjson_obj_get(yyjson_obj_get(b->manifest, "files"), name),
                                         "sha256"));
}

mapping *bundle_content(bundle *b, const char *name) {
    if (!bundle_hash(b, name)) fail(AGAIN, "the bundle has no %s", name);
    return &find_content(b, name)->content;
}
