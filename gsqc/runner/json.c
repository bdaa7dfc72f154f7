/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
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

yyjson_val *json_read(const json_source *source, const char *text, size_t length) {
    /* Without the in-situ flag the reader only reads the text. */
    yyjson_doc *document = yyjson_read_opts((char *)(uintptr_t)text, length, 0, NULL, NULL);
    if (!document) fail(source->hint, "%s is not JSON", source->what);
    at_release(undo_document, document, 0);
    yyjson_val *root = yyjson_doc_get_root(document);
    if (!yyjson_is_obj(root)) json_fail(source, "it is no object");
    return root;
}

yyjson_val *json_object(const json_source *source, yyjson_val *parent, const char *key) {
    yyjson_val *value = yyjson_obj_get(parent, key);
    if (!yyjson_is_obj(value)) json_fail(source, "%s is no object", key);
    return value;
}

yyjson_val *json_array(const json_source *source, yyjson_val *value, const char *what) {
    if (!yyjson_is_arr(value)) json_fail(source, "%s is no list", what);
    return value;
}

const char *json_text(const json_source *source, yyjson_val *value, const char *what) {
    const char *text = yyjson_get_str(value);
    if (!text || strlen(text) != yyjson_get_len(value)) json_fail(source, "%s is no text", what);
    return text;
}

uint64_t json_count(const json_source *source, yyjson_val *value, const char *what, uint64_t limit) {
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) > limit) json_fail(source, "%s is no valid number", what);
    return yyjson_get_uint(value);
}
