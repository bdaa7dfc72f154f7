/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the fields of a manifest by the rules in format.h. It trusts that the text was valid JSON
 * (json.c) and nothing more. */
#include "fields.h"

#include <stdbool.h>
#include <string.h>

#include "format.h"

typedef enum { FIELD_KIND_LIST } field_kind;

/* A rule for the value at a path: "model.layers", or "files.*.bytes" for every file's. */
typedef struct {
    const char *path;
    field_kind kind;
    bool optional;
    uint64_t least, most;
    const char *const *texts; /* those that a text may be, or NULL */
} field_rule;

static const field_rule RULES[] = {MANIFEST_RULES};

static bool is_text(yyjson_val *value) {
    const char *text = yyjson_get_str(value);
    return text && strlen(text) == yyjson_get_len(value);
}

static bool is_one_of(yyjson_val *value, const char *const *texts) {
    for (; *texts; texts++)
        if (yyjson_equals_str(value, *texts)) return true;
    return false;
}

static bool are_texts(yyjson_val *list) {
    size_t position, last;
    yyjson_val *item;
    if (!yyjson_is_arr(list)) return false; /* the loop takes no missing value */
    yyjson_arr_foreach(list, position, last, item)
        if (!is_text(item)) return false;
    return true;
}

static bool is_table(yyjson_val *object) {
    size_t position, last;
    yyjson_val *key, *value;
    if (!yyjson_is_obj(object)) return false;
    yyjson_obj_foreach(object, position, last, key, value)
        if (!is_text(key)) return false;
    return true;
}

static bool fits(const field_rule *rule, yyjson_val *value) {
    if (rule->optional && (!value || yyjson_is_null(value))) return true;
    switch (rule->kind) {
    case FIELD_TEXT: return is_text(value) && (!rule->texts || is_one_of(value, rule->texts));
    case FIELD_NUMBER:
        return yyjson_is_uint(value) && yyjson_get_uint(value) >= rule->least &&
               yyjson_get_uint(value) <= rule->most;
    case FIELD_TEXTS: return are_texts(value);
    case FIELD_OBJECT: return yyjson_is_obj(value);
    case FIELD_TABLE: return is_table(value);
    case FIELD_ANY: break;
    }
    return true;
}

static void check_at(const json_source *source, const field_rule *rule, const char *path,
                     yyjson_val *parent);

/* Only what lies at the end of a path is checked. The objects on the way have rules of their
 * own. */
static void follow(const json_source *source, const field_rule *rule, const char *rest,
                   yyjson_val *value) {
    if (!*rest && !fits(rule, value)) json_fail(source, "%s", rule->path);
    if (*rest && yyjson_is_obj(value)) check_at(source, rule, rest + 1, value);
}

static void check_at(const json_source *source, const field_rule *rule, const char *path,
                     yyjson_val *parent) {
    size_t length = strcspn(path, "."), position, last;
    yyjson_val *key, *value;
    if (*path != '*') {
        follow(source, rule, path + length, yyjson_obj_getn(parent, path, length));
        return;
    }
    yyjson_obj_foreach(parent, position, last, key, value)
        follow(source, rule, path + length, value);
}

void check_manifest(const json_source *source, yyjson_val *manifest) {
    for (size_t k = 0; k < sizeof RULES / sizeof *RULES; k++)
        check_at(source, &RULES[k], RULES[k].path, manifest);
}
