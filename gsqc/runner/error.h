/* SPDX-License-Identifier: Apache-2.0 */
/* Errors that a user can cause: one line on stderr that says what happened and what to do next, and
 * exit code 2. */
#ifndef GSQC_ERROR_H
#define GSQC_ERROR_H

#define AGAIN "compile the model again (gsqc compile ... --force)"
#define NEW_RUN "start a new run with another --run"
#define READABLE "make it readable, and run the same command again"

/* Called with the complete line before the program exits. The fuzzer jumps back to its loop from
 * here. */
extern void (*on_failure)(const char *line);

/* Print "error: MESSAGE; HINT" and end. Control characters of a stranger's file are replaced. */
_Noreturn void fail(const char *hint, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Print "warning: MESSAGE" and go on. */
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
