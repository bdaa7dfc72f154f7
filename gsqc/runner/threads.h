/* SPDX-License-Identifier: Apache-2.0 */
/* A pool of threads for the kernels' parallel loops and for hashing. */
#ifndef GSQC_THREADS_H
#define GSQC_THREADS_H

typedef int (*thread_task)(int number, int count, void *data);

/* Work with `count` threads from now on, of which the caller is one, at most MAXIMUM_THREADS. Gives
 * 0, or an errno if they cannot be started. */
int use_threads(int count);

int thread_count(void);

/* Run the tasks 0 to count - 1, and return when all are done. Gives 0, or what a failed task
 * returned. There can be one caller at a time, and no task may call it. */
int run_tasks(thread_task task, int count, void *data);

#endif
