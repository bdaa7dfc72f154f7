/* SPDX-License-Identifier: Apache-2.0 */
/* Checked access to JSON. A function that finds a fault fails with "WHAT is malformed
 * (PROBLEM)". */
#ifndef GSQC_JSON_H
#define GSQC_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "third_party/yyjson/yyjson.h"

/* Where an error happened: "the bundle's plan", and what to do about it. */
typedef struct {
    const char *what, *hint;
} json_source;

/* The root of a text, which release_memory frees. It must be an object, and no object in it may
 * have two equal names. gsqc/bundle/json_text.py reads by the same rules. */
yyjson_val *json_read(const json_source *source, const char *text, size_t length);

_Noreturn void json_fail(const json_source *source, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

yyjson_val *json_object(const json_source *source, yyjson_val *parent, const char *key);
yyjson_val *json_array(const json_source *source, yyjson_val *value, const char *what);

/* A text without zero bytes. */
const char *json_text(const json_source *source, yyjson_val *value, const char *what);

/* The number of elements of a list of sizes, at most MAXIMUM_COUNT. */
uint64_t json_shape(const json_source *source, yyjson_val *sizes);

/* An integer in [0, limit]. */
uint64_t json_count(const json_source *source, yyjson_val *value, const char *what, uint64_t limit);

#endif
