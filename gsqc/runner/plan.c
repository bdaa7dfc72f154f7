/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the names, tensors and buffers of a plan; plan_calls.c reads the calls. It trusts nothing
 * in the file: what is accepted has known names, and every part lies inside its tensor. The
 * executor then follows every reference without a check. */
#include "plan.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "memory.h"
#include "plan_parts.h"

const json_source plan_source = {"the bundle's plan", AGAIN};

static const char *const KINDS[BUFFER_KINDS] = {BUFFER_KIND_NAMES};

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *type_name(unsigned item_bytes) {
    return item_bytes == 1 ? "int8" : item_bytes == 2 ? "int16" : "int32";
}

unsigned type_bytes(const char *name) {
    for (unsigned bytes = 1; bytes <= 4; bytes *= 2)
        if (!strcmp(name, type_name(bytes))) return bytes;
    return 0;
}

/* Tables of things whose first member is their name. */
static void *find(const void *items, uint32_t count, size_t size, const char *name) {
    return count ? bsearch(&name, items, count, size, by_name) : NULL;
}

static void sort_unique(void *items, uint32_t count, size_t size) {
    if (!count) return;
    qsort(items, count, size, by_name);
    for (uint32_t k = 1; k < count; k++) {
        const char *const *pair[2];
        for (int i = 0; i < 2; i++)
            pair[i] = (const void *)((char *)items + (k - 1 + (uint32_t)i) * size);
        if (!strcmp(*pair[0], *pair[1]))
            json_fail(&plan_source, "the name %s occurs twice", *pair[0]);
    }
}

tensor *find_tensor(const tensor_table *table, const char *name) {
    return find(table->items, table->count, sizeof *table->items, name);
}

schedule *find_schedule(const plan *p, const char *name) {
    return find(p->schedules, p->schedule_count, sizeof *p->schedules, name);
}

void read_tensors(tensor_table *table, yyjson_val *data, tensor_kind kind) {
    size_t position, last;
    yyjson_val *key, *value;
    yyjson_obj_foreach(data, position, last, key, value) {
        tensor *t = &table->items[table->count++];
        t->name = json_text(&plan_source, key, "a tensor's name");
        t->kind = kind;
        if (yyjson_arr_size(value) != 3)
            json_fail(&plan_source, "the tensor %s is not [type, count, offset]", t->name);
        t->item_bytes = type_bytes(json_text(&plan_source, yyjson_arr_get(value, 0), "a type"));
        if (!t->item_bytes) json_fail(&plan_source, "the tensor %s has no known type", t->name);
        t->count = json_count(&plan_source, yyjson_arr_get(value, 1), t->name, MAXIMUM_COUNT);
        yyjson_val *offset = yyjson_arr_get(value, 2);
        if (kind == ACTIVATION || kind == SCRATCH)
            t->offset = json_count(&plan_source, offset, t->name, MAXIMUM_COUNT);
        else if (!yyjson_is_sint(offset) || yyjson_get_sint(offset) != -1)
            json_fail(&plan_source, "%s has a place of its own", t->name);
    }
}

void finish_table(tensor_table *table) {
    sort_unique(table->items, table->count, sizeof *table->items);
}

void check_region(const tensor_table *table, tensor_kind kind, uint64_t size) {
    for (uint32_t k = 0; k < table->count; k++) {
        const tensor *t = &table->items[k];
        if (t->kind == kind &&
            (t->offset % ALIGNMENT || t->offset + t->count * t->item_bytes > size))
            json_fail(&plan_source, "the tensor %s leaves its region", t->name);
    }
}

reference read_reference(yyjson_val *data, const tensor_table *near, const tensor_table *far) {
    if (yyjson_arr_size(data) != 3)
        json_fail(&plan_source, "a reference is not [name, offset, count]");
    const char *name = json_text(&plan_source, yyjson_arr_get(data, 0), "a reference's name");
    reference r = {find_tensor(near, name), 0, 0};
    if (!r.target && far) r.target = find_tensor(far, name);
    if (!r.target) json_fail(&plan_source, "there is no tensor %s", name);
    r.offset = json_count(&plan_source, yyjson_arr_get(data, 1), name, MAXIMUM_COUNT);
    r.count = json_count(&plan_source, yyjson_arr_get(data, 2), name, MAXIMUM_COUNT);
    if (r.offset + r.count > r.target->count)
        json_fail(&plan_source, "a reference leaves the tensor %s", name);
    return r;
}

static void read_buffers(plan *p, yyjson_val *data) {
    size_t total = 0;
    if (yyjson_obj_size(data) != BUFFER_KINDS)
        json_fail(&plan_source, "it has buffers of unknown kinds");
    for (int kind = 0; kind < BUFFER_KINDS; kind++)
        total += yyjson_obj_size(json_object(&plan_source, data, KINDS[kind]));
    p->buffers.items = take(total, sizeof *p->buffers.items);
    for (int kind = 0; kind < BUFFER_KINDS; kind++) {
        read_tensors(&p->buffers, yyjson_obj_get(data, KINDS[kind]), (tensor_kind)kind);
    }
    finish_table(&p->buffers);
    for (uint32_t k = 0; k < p->buffers.count; k++) {
        const tensor *t = &p->buffers.items[k];
        if (t->kind == BASE) continue;
        uint64_t size = (t->count * t->item_bytes / ALIGNMENT + 1) * ALIGNMENT;
        uint64_t *sum = t->kind == GRADIENT ? &p->gradient_bytes : &p->buffer_bytes;
        if (__builtin_add_overflow(*sum, size, sum))
            json_fail(&plan_source, "its buffers are larger than any memory");
    }
}

/* Code that is made anew from a plan has its names in it: they must be names and nothing else. The
 * rule is that of gsqc/bundle/plan_checks.py. */
static const char *identifier(const char *name) {
    static const char allowed[] =
        "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t length = strspn(name, allowed);
    bool digit_first = *name >= '0' && *name <= '9';
    if (!length || length > 128 || name[length] || digit_first)
        json_fail(&plan_source, "a name is not of letters, digits and _");
    return name;
}

/* All names are read before any content: a call may name a function that the file lists later. */
static uint32_t read_names(void **items, size_t size, yyjson_val *data, const char *what) {
    size_t position, last;
    yyjson_val *key, *value;
    *items = take(yyjson_obj_size(data), size);
    char *item = *items;
    yyjson_obj_foreach(data, position, last, key, value) {
        *(const char **)(void *)item = identifier(json_text(&plan_source, key, what));
        item += size;
    }
    uint32_t count = (uint32_t)yyjson_obj_size(data);
    sort_unique(*items, count, size);
    return count;
}

void read_plan(plan *p, yyjson_val *data) {
    yyjson_val *parts[3];
    static const char *const names[3] = {"kernels", "functions", "schedules"};
    for (int k = 0; k < 3; k++) parts[k] = json_object(&plan_source, data, names[k]);
    p->kernel_count =
        read_names((void **)&p->kernels, sizeof *p->kernels, parts[0], "a kernel's name");
    p->function_count =
        read_names((void **)&p->functions, sizeof *p->functions, parts[1], "a function's name");
    p->schedule_count =
        read_names((void **)&p->schedules, sizeof *p->schedules, parts[2], "a schedule's name");
    read_buffers(p, json_object(&plan_source, data, "buffers"));
    size_t position, last;
    yyjson_val *key, *value;
    yyjson_obj_foreach(parts[0], position, last, key, value)
        read_kernel(find_kernel(p, yyjson_get_str(key)), value);
    yyjson_obj_foreach(parts[1], position, last, key, value)
        read_function(p, find_function(p, yyjson_get_str(key)), value);
    yyjson_obj_foreach(parts[2], position, last, key, value)
        read_schedule(p, find_schedule(p, yyjson_get_str(key)), value);
}

kernel *find_kernel(const plan *p, const char *name) {
    return find(p->kernels, p->kernel_count, sizeof *p->kernels, name);
}

function *find_function(const plan *p, const char *name) {
    return find(p->functions, p->function_count, sizeof *p->functions, name);
}
