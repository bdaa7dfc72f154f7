/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of threads. Which thread runs which task changes from run to run, and no result depends
 * on it, because tasks write to separate places. It trusts its callers to give it one job at a
 * time. */
#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "format.h"

enum { SPINS = 256, YIELDS = 512, LINE_BYTES = 64 };

/* A thread's share of a job's tasks: [next, end). Others take from it when they have none left. */
typedef struct {
    _Alignas(LINE_BYTES) atomic_int next;
    int end;
} share;

/* One job at a time. A worker enters a job that is open. The caller closes the job when no task is
 * left to be taken, and waits for the workers inside. So it never waits for a worker that the
 * system has not let run. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_uint generation;
    atomic_bool open;
    atomic_int inside, result;
    thread_task task;
    void *data;
    int count, threads, started;
    share shares[MAXIMUM_THREADS];
} pool = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
    .threads = 1,
    .started = 1,
};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

/* Each thread begins with its own share, so that it finds the rows of the kernel before in its
 * cache. */
static void take_tasks(int self) {
    for (int k = 0; k < pool.threads; k++) {
        share *s = &pool.shares[(self + k) % pool.threads];
        for (int number; (number = atomic_fetch_add(&s->next, 1)) < s->end;) {
            int result = pool.task(number, pool.count, pool.data);
            if (result) atomic_store(&pool.result, result);
        }
    }
}

/* Waiting begins by looking again and again, which is fastest. Soon it lets others run in between:
 * on a busy machine the thread that it waits for may be waiting for this core. */
static void wait_briefly(int times) { times < SPINS ? pause_cpu() : (void)sched_yield(); }

/* Kernels follow each other closely, so a worker looks for a while before it sleeps. */
static void wait_for_job(unsigned seen) {
    for (int k = 0; k < SPINS + YIELDS; k++) {
        if (atomic_load(&pool.generation) != seen) return;
        wait_briefly(k);
    }
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.generation) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

static _Noreturn void *work(void *number) {
    int self = (int)(intptr_t)number;
    for (unsigned seen = 0;;) {
        wait_for_job(seen);
        seen = atomic_load(&pool.generation);
        atomic_fetch_add(&pool.inside, 1);
        if (atomic_load(&pool.open) && self < pool.threads) take_tasks(self);
        atomic_fetch_sub(&pool.inside, 1);
    }
}

int use_threads(int count) {
    if (count < 1 || count > MAXIMUM_THREADS) return EINVAL;
    for (; pool.started < count; pool.started++) {
        pthread_t thread;
        int reason = pthread_create(&thread, NULL, work, (void *)(intptr_t)pool.started);
        if (reason) return reason;
        pthread_detach(thread);
    }
    pool.threads = count;
    return 0;
}

int thread_count(void) { return pool.threads; }

int run_tasks(thread_task task, int count, void *data) {
    pool.task = task;
    pool.data = data;
    pool.count = count;
    for (int64_t k = 0; k < pool.threads; k++) {
        pool.shares[k].end = (int)((k + 1) * count / pool.threads);
        atomic_store(&pool.shares[k].next, (int)(k * count / pool.threads));
    }
    atomic_store(&pool.result, 0);
    bool shared = pool.threads > 1 && count > 1;
    if (shared) {
        atomic_store(&pool.open, true);
        pthread_mutex_lock(&pool.lock);
        atomic_fetch_add(&pool.generation, 1);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
    take_tasks(0);
    atomic_store(&pool.open, false);
    for (int k = 0; shared && atomic_load(&pool.inside); k += k < SPINS) wait_briefly(k);
    return atomic_load(&pool.result);
}
