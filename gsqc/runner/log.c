/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the log. It trusts no line that stands there already: what is not a step's line goes. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "format.h"
#include "memory.h"
#include "replacement.h"
#include "third_party/yyjson/yyjson.h"

/* Lines that are not on disk yet. */
static struct {
    char *text;
    size_t size;
    bool warned;
} waiting;

/* Steps after the saved one will be made again, so their lines go. */
void resume_log(const folder *run, uint64_t step) {
    mapping map;
    if (!is_there(run->descriptor, LOG_FILE)) return;
    if (!read_file(&map, run->descriptor, LOG_FILE, physical_memory()))
        fail(READABLE, "cannot read %s/%s: %s", run->path, LOG_FILE,
             file_problem(run->descriptor, LOG_FILE));
    replacement file;
    begin_replacement(&file, run, LOG_FILE);
    for (uint64_t start = 0; start < map.size;) {
        const char *line = (const char *)map.data + start;
        const char *end = memchr(line, '\n', map.size - start);
        size_t length = end ? (size_t)(end - line) : map.size - start;
        yyjson_doc *entry = yyjson_read(line, length, 0);
        yyjson_val *number = yyjson_obj_get(yyjson_doc_get_root(entry), "step");
        if (yyjson_is_uint(number) && yyjson_get_uint(number) <= step) {
            write_replacement(&file, line, length);
            write_replacement(&file, "\n", 1);
        }
        yyjson_doc_free(entry);
        start += length + 1;
    }
    unmap(&map);
    if (!finish_replacement(&file)) fail_write(run, LOG_FILE);
}

bool flush_log(const folder *run) {
    struct stat before;
    if (!waiting.size) return true;
    int file = open_output(run->descriptor, LOG_FILE, O_CREAT | O_APPEND);
    if (file < 0) return false;
    bool good = !fstat(file, &before);
    if (good && !write_bytes(file, waiting.text, waiting.size)) {
        /* A part of a line would spoil the next one. */
        int reason = errno;
        good = false;
        (void)!ftruncate(file, before.st_size);
        errno = reason;
    }
    int reason = errno;
    if (close(file) && good) return false;
    errno = reason;
    if (good) waiting.size = 0;
    return good;
}

static void write_entry(FILE *line, const log_entry *e) {
    fprintf(line,
            "{\"step\": %" PRIu64 ", \"loss\": %.17g, \"tokens_per_second\": %.17g, "
            "\"peak_rss_bytes\": %" PRIu64 ", \"digest\": \"%s\"",
            e->step, e->loss, e->tokens_per_second, e->peak_bytes, e->digest);
    if (e->queries) fprintf(line, ", \"weight\": %" PRId64 ", \"differences\": [", e->weight);
    for (uint32_t k = 0; k < e->queries; k++)
        fprintf(line, "%s%" PRId64, k ? ", " : "", e->differences[k]);
    fprintf(line, "%s}\n", e->queries ? "]" : "");
}

void append_log(const folder *run, const log_entry *e) {
    char *line = NULL;
    size_t length = 0;
    FILE *lines = open_memstream(&line, &length);
    if (lines) write_entry(lines, e);
    if (!lines || fclose(lines)) fail("free some memory", "not enough memory for the log");
    char *text = realloc(waiting.text, waiting.size + length);
    if (!text) fail("free some memory", "not enough memory for the log");
    memcpy(text + waiting.size, line, length);
    free(line);
    waiting.text = text;
    waiting.size += length;
    bool good = flush_log(run);
    if (!good && !waiting.warned) warn_write(run, LOG_FILE);
    waiting.warned = !good;
}
