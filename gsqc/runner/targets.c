/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses the code of a bundle that this machine runs. It trusts that the manifest's fields have
 * their types (fields.c), but not its names: a folder's name is made of plain characters alone. */
#include "targets.h"

#include <stdio.h>
#include <string.h>

#include "error.h"
#include "format.h"
#include "machine.h"
#include "memory.h"

static bool runs_here(yyjson_val *triple) {
    const char *text = yyjson_get_str(triple);
    size_t length = strlen(machine_architecture);
    return !strncmp(text, machine_architecture, length) && (!text[length] || text[length] == '-');
}

/* Whether this machine runs a target's code. If not, it writes why. */
static bool can_run(const char *name, yyjson_val *target, FILE *reasons) {
    yyjson_val *triple = yyjson_obj_get(target, "triple"), *feature;
    if (!runs_here(triple)) {
        const char *text = yyjson_get_str(triple);
        fprintf(reasons, "; %s: %.*s code does not run on %s", name, (int)strcspn(text, "-"), text,
                machine_architecture);
        return false;
    }
    size_t position, last, missing = 0;
    yyjson_arr_foreach(yyjson_obj_get(target, "cpu_features"), position, last, feature) {
        if (machine_has(yyjson_get_str(feature))) continue;
        if (missing++) fprintf(reasons, ", %s", yyjson_get_str(feature));
        else
            fprintf(reasons, "; %s: the CPU of this machine lacks %s", name,
                    yyjson_get_str(feature));
    }
    return !missing;
}

static uint64_t rank_of(yyjson_val *target) {
    yyjson_val *rank = yyjson_obj_get(target, "rank");
    return yyjson_is_uint(rank) ? yyjson_get_uint(rank) : UINT64_MAX;
}

const char *choose_target(yyjson_val *targets, const char *wanted) {
    const char *chosen = NULL;
    uint64_t highest = 0;
    char *text = NULL;
    size_t size = 0, position, last;
    yyjson_val *key, *value;
    FILE *reasons = open_memstream(&text, &size);
    if (!reasons) fail("free some memory", "not enough memory to open the bundle");
    yyjson_obj_foreach(targets, position, last, key, value) {
        const char *name = yyjson_get_str(key);
        if ((wanted && strcmp(name, wanted)) || !can_run(name, value, reasons)) continue;
        if (chosen && rank_of(value) <= highest) continue;
        chosen = name;
        highest = rank_of(value);
    }
    if (fclose(reasons)) fail("free some memory", "not enough memory to open the bundle");
    if (!chosen)
        fail("gsqc retarget BUNDLE --target NAME adds code for this machine",
             "this machine cannot run the bundle's code (%s)",
             size     ? text + strlen("; ")
             : wanted ? "it has none for that target"
                      : "it has none");
    free(text);
    return chosen;
}

const char *code_file(const char *target, const char *name) {
    static const char folder[] = CODE_FOLDER;
    size_t size = sizeof folder + strlen(target) + strlen("/") + strlen(name);
    char *path = take(size, 1), *c = path + strlen(folder);
    snprintf(path, size, "%s%s/%s", folder, target, name);
    for (; c < path + strlen(folder) + strlen(target); c++)
        if (!strchr(PLAIN_CHARACTERS, *c)) *c = '-';
    return path;
}
