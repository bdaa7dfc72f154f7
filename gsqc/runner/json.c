/* SPDX-License-Identifier: Apache-2.0 */
/* Reads JSON. It trusts nothing: a text that is accepted is an object without repeated names, and
 * is nested no deeper than MAXIMUM_DEPTH, because the check walks it by recursion. */
#include "json.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "format.h"
#include "memory.h"

_Noreturn void json_fail(const json_source *source, const char *format, ...) {
    char problem[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    fail(source->hint, "%s is malformed (%s)", source->what, problem);
}

static void undo_document(void *document, size_t size) {
    (void)size;
    yyjson_doc_free(document);
}

/* Most objects are small, so their names are sorted on the stack. */
enum { FEW_NAMES = 32 };

static int by_text(const void *a, const void *b) {
    yyjson_val *x = *(yyjson_val *const *)a, *y = *(yyjson_val *const *)b;
    size_t length = yyjson_get_len(x), other = yyjson_get_len(y);
    if (length != other) return length < other ? -1 : 1;
    return memcmp(yyjson_get_str(x), yyjson_get_str(y), length);
}

/* With two equal names, one reader would take the first and another the last. */
static bool has_equal_names(yyjson_val *object) {
    yyjson_val *few[FEW_NAMES], **names = few, *key, *value;
    size_t count = yyjson_obj_size(object), used = 0, position, last;
    if (count > FEW_NAMES) names = malloc(count * sizeof *names);
    if (!names) fail("free some memory", "not enough memory to read JSON");
    yyjson_obj_foreach(object, position, last, key, value) names[used++] = key;
    qsort(names, count, sizeof *names, by_text);
    bool equal = false;
    for (size_t k = 1; k < count; k++) equal |= !by_text(&names[k - 1], &names[k]);
    if (names != few) free(names);
    return equal;
}

static void check_nesting(const json_source *source, yyjson_val *value, int depth) {
    size_t position, last;
    yyjson_val *key, *item;
    if (!yyjson_is_ctn(value)) return;
    if (depth > MAXIMUM_DEPTH)
        fail(source->hint, "%s is not JSON (nested too deeply)", source->what);
    if (yyjson_is_arr(value)) {
        yyjson_arr_foreach(value, position, last, item) check_nesting(source, item, depth + 1);
        return;
    }
    if (has_equal_names(value))
        fail(source->hint, "%s is not JSON (a name occurs twice in an object)", source->what);
    yyjson_obj_foreach(value, position, last, key, item) check_nesting(source, item, depth + 1);
}

yyjson_val *json_read(const json_source *source, const char *text, size_t length) {
    /* Without the in-situ flag the reader only reads the text. */
    yyjson_doc *document = yyjson_read_opts((char *)(uintptr_t)text, length, 0, NULL, NULL);
    if (!document) fail(source->hint, "%s is not JSON", source->what);
    at_release(undo_document, document, 0);
    yyjson_val *root = yyjson_doc_get_root(document);
    check_nesting(source, root, 1);
    if (!yyjson_is_obj(root)) json_fail(source, "it is not an object");
    return root;
}

yyjson_val *json_object(const json_source *source, yyjson_val *parent, const char *key) {
    yyjson_val *value = yyjson_obj_get(parent, key);
    if (!yyjson_is_obj(value)) json_fail(source, "%s is not an object", key);
    return value;
}

yyjson_val *json_array(const json_source *source, yyjson_val *value, const char *what) {
    if (!yyjson_is_arr(value)) json_fail(source, "%s is not a list", what);
    return value;
}

const char *json_text(const json_source *source, yyjson_val *value, const char *what) {
    const char *text = yyjson_get_str(value);
    if (!text || strlen(text) != yyjson_get_len(value)) json_fail(source, "%s is not a text", what);
    return text;
}

uint64_t json_count(const json_source *source, yyjson_val *value, const char *what,
                    uint64_t limit) {
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) > limit)
        json_fail(source, "%s is not a valid number", what);
    return yyjson_get_uint(value);
}

uint64_t json_shape(const json_source *source, yyjson_val *sizes) {
    size_t position, last;
    yyjson_val *size;
    uint64_t count = 1;
    yyjson_arr_foreach(json_array(source, sizes, "a shape"), position, last, size) {
        uint64_t n = json_count(source, size, "a shape", MAXIMUM_COUNT);
        if (__builtin_mul_overflow(count, n, &count) || count > MAXIMUM_COUNT)
            json_fail(source, "a shape is too large");
    }
    return count;
}
