/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes safetensors. It trusts nothing in a file's header: a tensor that is accepted has
 * a known type and lies inside the file. */
#include "tensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "error.h"
#include "memory.h"
#include "replacement.h"

enum { LENGTH_BYTES = 8 };
static const char METADATA[] = "__metadata__";

static const struct {
    const char *name;
    unsigned item_bytes;
} TYPES[] = {{"I8", 1}, {"U8", 1}, {"I16", 2}, {"I32", 4}};

static const char *file_type(unsigned item_bytes) {
    return item_bytes == 1 ? "I8" : item_bytes == 2 ? "I16" : "I32";
}

typedef struct {
    uint64_t start, count;
    const char *type;
} entry;

static entry read_entry(const tensor_file *file, const char *name, yyjson_val *value) {
    const json_source *source = &file->source;
    entry e = {0, 1, json_text(source, yyjson_obj_get(value, "dtype"), "a dtype")};
    uint64_t item_bytes = 0, bytes;
    for (size_t k = 0; k < sizeof TYPES / sizeof *TYPES; k++)
        if (!strcmp(e.type, TYPES[k].name)) item_bytes = TYPES[k].item_bytes;
    if (!item_bytes) json_fail(source, "%s has the unknown type %s", name, e.type);
    e.count = json_shape(source, yyjson_obj_get(value, "shape"));
    yyjson_val *offsets = json_array(source, yyjson_obj_get(value, "data_offsets"), "data_offsets");
    if (yyjson_arr_size(offsets) != 2) json_fail(source, "%s has no two data_offsets", name);
    e.start = json_count(source, yyjson_arr_get(offsets, 0), "an offset", INT64_MAX);
    uint64_t end = json_count(source, yyjson_arr_get(offsets, 1), "an offset", INT64_MAX);
    if (__builtin_mul_overflow(e.count, item_bytes, &bytes) || end > file->size || e.start > end ||
        end - e.start != bytes)
        json_fail(source, "%s leaves the file", name);
    return e;
}

static void check_metadata(const tensor_file *file, yyjson_val *metadata) {
    size_t position, last;
    yyjson_val *key, *value;
    if (!yyjson_is_obj(metadata)) json_fail(&file->source, "its metadata are no texts");
    yyjson_obj_foreach(metadata, position, last, key, value)
        json_text(&file->source, value, json_text(&file->source, key, "its metadata"));
}

static void read_header(tensor_file *file) {
    uint64_t length = 0;
    if (file->map.size < LENGTH_BYTES) json_fail(&file->source, "it is shorter than a header");
    for (int k = 0; k < LENGTH_BYTES; k++) length |= (uint64_t)file->map.data[k] << (8 * k);
    if (length < 2 || length > MAXIMUM_HEADER_BYTES || length > file->map.size - LENGTH_BYTES)
        json_fail(&file->source, "its header is longer than the file");
    file->data = file->map.data + LENGTH_BYTES + length;
    file->size = file->map.size - LENGTH_BYTES - length;
    file->header = json_read(&file->source, (const char *)file->map.data + LENGTH_BYTES, length);
    size_t position, last;
    yyjson_val *key, *value;
    yyjson_obj_foreach(file->header, position, last, key, value) {
        const char *name = json_text(&file->source, key, "a tensor's name");
        if (strcmp(name, METADATA)) read_entry(file, name, value);
        else check_metadata(file, value);
    }
}

void open_tensors(tensor_file *file, const char *path, mapping map, const char *hint) {
    *file = (tensor_file){.path = path, .source = {path, hint}, .map = map};
    read_header(file);
}

const char *tensor_metadata(const tensor_file *file, const char *key) {
    yyjson_val *text = yyjson_obj_get(yyjson_obj_get(file->header, METADATA), key);
    return text ? json_text(&file->source, text, key) : NULL;
}

static entry find_entry(const tensor_file *file, const char *name, unsigned item_bytes) {
    yyjson_val *value = yyjson_obj_get(file->header, name);
    if (!value || !strcmp(name, METADATA)) json_fail(&file->source, "it has no tensor %s", name);
    entry e = read_entry(file, name, value);
    if (strcmp(e.type, file_type(item_bytes)))
        json_fail(&file->source, "%s is %s and should be %s", name, e.type, file_type(item_bytes));
    return e;
}

uint64_t tensor_count(const tensor_file *file, const char *name, unsigned item_bytes) {
    return find_entry(file, name, item_bytes).count;
}

unsigned char *tensor_data(const tensor_file *file, const char *name, unsigned item_bytes,
                           uint64_t count) {
    entry e = find_entry(file, name, item_bytes);
    if (e.count != count)
        json_fail(&file->source, "%s has %" PRIu64 " elements and should have %" PRIu64, name,
                  e.count, count);
    /* A stranger's file may put a tensor anywhere, but kernels rely on the alignment. */
    unsigned char *data = file->data + e.start;
    if ((uintptr_t)data % ALIGNMENT == 0) return data;
    unsigned char *copy = take(count, item_bytes);
    return memcpy(copy, data, count * item_bytes);
}

void release_pages(const tensor_file *file) {
    /* If this fails, the pages leave memory later. */
    (void)madvise(file->map.data, file->map.size, MADV_DONTNEED);
}

/* Tensors whose size is a multiple of ALIGNMENT come first, so that each of them begins at one.
 * Within both parts the order is by name. */
static int by_place(const void *a, const void *b) {
    const tensor *x = *(tensor *const *)a, *y = *(tensor *const *)b;
    int ragged =
        (x->count * x->item_bytes % ALIGNMENT != 0) - (y->count * y->item_bytes % ALIGNMENT != 0);
    return ragged ? ragged : strcmp(x->name, y->name);
}

static char *header_text(tensor *const *tensors, uint32_t count, uint64_t step, const char *bundle,
                         size_t *length) {
    char number[24];
    yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_val *metadata = yyjson_mut_obj_add_obj(document, root, METADATA);
    yyjson_mut_doc_set_root(document, root);
    snprintf(number, sizeof number, "%" PRIu64, step);
    yyjson_mut_obj_add_str(document, metadata, "step", number);
    yyjson_mut_obj_add_str(document, metadata, "bundle", bundle);
    uint64_t start = 0;
    for (uint32_t k = 0; k < count; k++) {
        const tensor *t = tensors[k];
        yyjson_mut_val *e = yyjson_mut_obj_add_obj(document, root, t->name);
        yyjson_mut_obj_add_str(document, e, "dtype", file_type(t->item_bytes));
        yyjson_mut_arr_add_uint(document, yyjson_mut_obj_add_arr(document, e, "shape"), t->count);
        yyjson_mut_val *offsets = yyjson_mut_obj_add_arr(document, e, "data_offsets");
        yyjson_mut_arr_add_uint(document, offsets, start);
        start += t->count * t->item_bytes;
        yyjson_mut_arr_add_uint(document, offsets, start);
    }
    char *text = yyjson_mut_write(document, YYJSON_WRITE_ESCAPE_UNICODE, length);
    yyjson_mut_doc_free(document);
    if (!text) fail("free some memory", "not enough memory to save the state");
    return text;
}

bool write_tensors(const folder *place, const char *name, tensor *const *tensors, uint32_t count,
                   uint64_t step, const char *bundle) {
    tensor **order = malloc((count + 1) * sizeof *order);
    if (!order) fail("free some memory", "not enough memory to save the state");
    memcpy(order, tensors, count * sizeof *order);
    qsort(order, count, sizeof *order, by_place);
    size_t length;
    char *text = header_text(order, count, step, bundle, &length);
    uint64_t padding = (ALIGNMENT - (LENGTH_BYTES + length) % ALIGNMENT) % ALIGNMENT;
    unsigned char prefix[LENGTH_BYTES];
    for (int k = 0; k < LENGTH_BYTES; k++)
        prefix[k] = (unsigned char)((length + padding) >> (8 * k));
    replacement file;
    begin_replacement(&file, place, name);
    write_replacement(&file, prefix, sizeof prefix);
    write_replacement(&file, text, length);
    char spaces[ALIGNMENT];
    memset(spaces, ' ', sizeof spaces);
    write_replacement(&file, spaces, padding);
    for (uint32_t k = 0; k < count; k++)
        write_replacement(&file, order[k]->address, order[k]->count * order[k]->item_bytes);
    free(text);
    free(order);
    return finish_replacement(&file);
}
