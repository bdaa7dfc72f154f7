/* SPDX-License-Identifier: Apache-2.0 */
/* Heeds signals, and writes to standard output. Whatever reads the output may go away, or the file
 * behind it may be on a full disk. That must not cost the steps that were made. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "files.h"

enum { SIGNAL_EXIT = 128, NOTICE_BYTES = 128 };

/* Signals within this time are one: `timeout` sends its own to the process and to its group. */
enum { ONE_SIGNAL_MILLISECONDS = 500 };

static volatile sig_atomic_t noted, notice;
static volatile int64_t noted_at;
static char notices[2][NOTICE_BYTES];
static int output_error;

void prepare_process(void) {
    /* A descriptor that was closed stays one that cannot be written: what is printed fails. */
    for (int k = 0; k <= STDERR_FILENO; k++)
        if (fcntl(k, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != k)
            fail("start it with its standard descriptors", "descriptor %d is closed", k);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

/* An update that stops half way would leave a state that is neither the old nor the new one. So the
 * step ends first. */
static void note_signal(int number) {
    int reason = errno;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t milliseconds = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (noted) {
        if (milliseconds - noted_at > ONE_SIGNAL_MILLISECONDS) _Exit(SIGNAL_EXIT + number);
        return;
    }
    noted_at = milliseconds;
    noted = number;
    (void)write_bytes(STDERR_FILENO, notices[notice], strlen(notices[notice]));
    errno = reason;
}

static void write_notice(const char *length) {
    /* The signal may come now, so the text that it prints is not the one that is written. */
    char *text = notices[1 - notice];
    snprintf(text, NOTICE_BYTES, "stopping after this step%s; a second signal stops at once\n",
             length);
    notice = 1 - notice;
}

void note_step_seconds(double seconds) {
    char length[48];
    snprintf(length, sizeof length, ", about %.*f s", seconds < 10, seconds);
    write_notice(length);
}

void heed_signals(void) {
    struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
    write_notice("");
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int noted_signal(void) { return noted; }

bool say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    errno = 0;
    bool good = vprintf(format, arguments) >= 0;
    good = !fflush(stdout) && good;
    va_end(arguments);
    if (!good && !output_error) output_error = errno;
    return good;
}

_Noreturn void fail_output(const char *rest) {
    fail("give it an output that can be written, and run the same command again",
         "cannot write to standard output: %s%s", strerror(output_error), rest);
}
