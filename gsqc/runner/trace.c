/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the record of a run's calls. It trusts its callers: the arrays are those of the plan. */
#include "trace.h"

#include <inttypes.h>

#include "error.h"
#include "files.h"
#include "memory.h"

void open_trace(trace *t, const char *path, uint64_t wanted, const plan *p) {
    char hash[HASH_TEXT];
    *t = (trace){path, fopen(path, "w"), 0, wanted};
    if (!t->lines) fail_write(path);
    for (uint32_t k = 0; k < p->buffers.count; k++) {
        const tensor *b = &p->buffers.items[k];
        if (b->kind != PREPARED) continue;
        hash_bytes(hash, b->address, b->count * b->item_bytes);
        fprintf(t->lines, "prepared %s %s\n", b->name, hash);
    }
}

static void write_values(const trace *t, const array *results, uint32_t count) {
    char *path = take(FILENAME_MAX, 1);
    snprintf(path, FILENAME_MAX, "%s.values", t->path);
    FILE *file = fopen(path, "wb");
    if (!file) fail_write(path);
    for (uint32_t k = 0; k < count; k++)
        if (fwrite(results[k].data, results[k].item_bytes, results[k].count, file) !=
            results[k].count)
            fail_write(path);
    if (fclose(file)) fail_write(path);
}

void trace_call(trace *t, const char *name, const array *results, uint32_t count) {
    char hash[HASH_TEXT];
    fputs(name, t->lines);
    for (uint32_t k = 0; k < count; k++) {
        hash_bytes(hash, results[k].data, results[k].count * results[k].item_bytes);
        fprintf(t->lines, " %s", hash);
    }
    fputc('\n', t->lines);
    if (++t->calls == t->wanted) write_values(t, results, count);
}

void close_trace(trace *t) {
    int broken = ferror(t->lines);
    if (fclose(t->lines) || broken) fail_write(t->path);
}
