/* SPDX-License-Identifier: Apache-2.0 */
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "error.h"

enum { SPINS = 20000 };

/* One job at a time. A worker joins a job by its generation, and takes task numbers until none is left. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_uint generation;
    atomic_int next, working, result;
    thread_task task;
    void *data;
    int count, workers;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

static void take_tasks(void) {
    for (int number; (number = atomic_fetch_add(&pool.next, 1)) < pool.count;) {
        int result = pool.task(number, pool.count, pool.data);
        if (result) atomic_store(&pool.result, result);
    }
}

/* Kernels follow each other closely, so a worker looks for a while before it sleeps. */
static void wait_for_job(unsigned seen) {
    for (int k = 0; k < SPINS; k++) {
        if (atomic_load(&pool.generation) != seen) return;
        pause_cpu();
    }
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.generation) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

static _Noreturn void *work(void *unused) {
    (void)unused;
    for (unsigned seen = 0;; seen++) {
        wait_for_job(seen);
        take_tasks();
        atomic_fetch_sub(&pool.working, 1);
    }
}

void start_threads(int count) {
    for (int k = 1; k < count; k++) {
        pthread_t thread;
        int reason = pthread_create(&thread, NULL, work, NULL);
        if (reason) fail("use fewer --threads", "cannot start %d threads: %s", count, strerror(reason));
        pthread_detach(thread);
        pool.workers++;
    }
}

int thread_count(void) { return pool.workers + 1; }

int run_tasks(thread_task task, int count, void *data) {
    pool.task = task;
    pool.data = data;
    pool.count = count;
    atomic_store(&pool.next, 0);
    atomic_store(&pool.result, 0);
    bool shared = pool.workers && count > 1;
    if (shared) {
        atomic_store(&pool.working, pool.workers);
        pthread_mutex_lock(&pool.lock);
        atomic_fetch_add(&pool.generation, 1);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
    take_tasks();
    /* Every worker must have left this job before the next one begins. */
    for (int k = 0; shared && atomic_load(&pool.working); k++) k < SPINS ? pause_cpu() : (void)sched_yield();
    return atomic_load(&pool.result);
}
