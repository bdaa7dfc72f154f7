/* SPDX-License-Identifier: Apache-2.0 */
/* The process as its caller sees it: signals, exit codes and standard output. */
#ifndef GSQC_PROCESS_H
#define GSQC_PROCESS_H

#include <stdbool.h>

/* Make sure that the three standard descriptors are taken, so that no file of a run gets one of
 * their numbers, and that a closed pipe or a limit of the size of files is an error of the write
 * and not the end of the program. */
void prepare_process(void);

/* End after the step that runs when Ctrl-C or SIGTERM comes, and at once when it comes again. */
void heed_signals(void);

/* The signal that came, or 0. */
int noted_signal(void);

/* How long a step takes, for what the first signal prints. */
void note_step_seconds(double seconds);

/* Print to standard output. False if it is closed or full. */
bool say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Fail because standard output cannot be written. `rest` says what holds all the same. */
_Noreturn void fail_output(const char *rest);

#endif
