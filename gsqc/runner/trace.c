/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the record of a run's calls. It trusts its callers: the arrays are those of the plan. */
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "memory.h"

/* Split a path into the folder that is opened and a name in it. */
static void open_folder(trace *t, const char *path) {
    const char *slash = strrchr(path, '/');
    t->name = slash ? slash + 1 : path;
    t->folder.path = !slash ? "." : slash == path ? "/" : take_text(path, (size_t)(slash - path));
    t->folder.descriptor = open(t->folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->folder.descriptor < 0 || !*t->name)
        fail("give a file in a folder that exists with --trace", "cannot write %s: %s", path,
             *t->name ? strerror(errno) : "it has no name");
}

void open_trace(trace *t, const char *path, uint64_t wanted, const plan *p) {
    char hash[HASH_TEXT];
    *t = (trace){.wanted = wanted};
    open_folder(t, path);
    begin_replacement(&t->file, &t->folder, t->name);
    t->lines = t->file.error ? NULL : fdopen(dup(t->file.descriptor), "w");
    if (!t->lines) fail_write(&t->folder, t->name);
    for (uint32_t k = 0; k < p->buffers.count; k++) {
        const tensor *b = &p->buffers.items[k];
        if (b->kind != PREPARED) continue;
        hash_bytes(hash, b->address, b->count * b->item_bytes);
        fprintf(t->lines, "prepared %s %s\n", b->name, hash);
    }
}

static void write_values(const trace *t, const array *results, uint32_t count) {
    static const char ending[] = ".values";
    size_t size = strlen(t->name) + sizeof ending;
    char *name = take(size, 1);
    snprintf(name, size, "%s%s", t->name, ending);
    replacement file;
    begin_replacement(&file, &t->folder, name);
    for (uint32_t k = 0; k < count; k++)
        write_replacement(&file, results[k].data, results[k].item_bytes * results[k].count);
    if (!finish_replacement(&file)) fail_write(&t->folder, name);
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
    bool broken = ferror(t->lines);
    if (fclose(t->lines) || broken) fail_write(&t->folder, t->name);
    if (!finish_replacement(&t->file)) fail_write(&t->folder, t->name);
}
