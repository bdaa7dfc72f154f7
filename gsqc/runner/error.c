/* SPDX-License-Identifier: Apache-2.0 */
/* Ends the program with one line. The line may hold names from a stranger's file, so control
 * characters, which could change a terminal, become question marks. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINE_BYTES = 1024, USER_ERROR = 2 };

void (*on_failure)(const char *line);

static void print_line(char *line) {
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
    fprintf(stderr, "%s\n", line);
}

void warn(const char *format, ...) {
    char message[LINE_BYTES], line[LINE_BYTES + sizeof "warning: "];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    snprintf(line, sizeof line, "warning: %s", message);
    print_line(line);
}

_Noreturn void fail(const char *hint, const char *format, ...) {
    char message[LINE_BYTES], line[2 * LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    snprintf(line, sizeof line, "error: %s; %s", message, hint);
    if (on_failure) on_failure(line);
    print_line(line);
    exit(USER_ERROR);
}
