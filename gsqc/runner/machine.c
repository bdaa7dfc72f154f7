/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the system which CPU this is, and trusts its answer: code for another CPU would end in an
 * illegal instruction. */
#define _GNU_SOURCE
#include "machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__)
#include <sys/auxv.h>

const char *const machine_architecture = "aarch64";

/* Names by their bit, as the kernel lists them in /proc/cpuinfo. An emulator's file there may show
 * another machine. */
static const char *const HWCAP[] = {
    "fp",      "asimd", "evtstrm",  "aes",   "pmull", "sha1",  "sha2",   "crc32",
    "atomics", "fphp",  "asimdhp",  "cpuid", "asimdrdm", "jscvt", "fcma", "lrcpc",
    "dcpop",   "sha3",  "sm3",      "sm4",   "asimddp", "sha512", "sve",  "asimdfhm",
    "dit",     "uscat", "ilrcpc",   "flagm", "ssbs",  "sb",    "paca",   "pacg"};
static const char *const HWCAP2[] = {"dcpodp",   "sve2",    "sveaes",   "svepmull", "svebitperm",
                                     "svesha3",  "svesm4",  "flagm2",   "frint",    "svei8mm",
                                     "svef32mm", "svef64mm", "svebf16", "i8mm",     "bf16"};

static bool has_bit(const char *feature, const char *const *names, size_t count,
                    unsigned long bits) {
    for (size_t k = 0; k < count; k++)
        if (!strcmp(feature, names[k])) return bits >> k & 1;
    return false;
}

bool machine_has(const char *feature) {
    return has_bit(feature, HWCAP, sizeof HWCAP / sizeof *HWCAP, getauxval(AT_HWCAP)) ||
           has_bit(feature, HWCAP2, sizeof HWCAP2 / sizeof *HWCAP2, getauxval(AT_HWCAP2));
}

#elif defined(__x86_64__)

const char *const machine_architecture = "x86_64";

bool machine_has(const char *feature) {
    FILE *file = fopen("/proc/cpuinfo", "r");
    char *line = NULL;
    size_t size = 0;
    bool found = false;
    while (file && getline(&line, &size, file) > 0) {
        if (strncmp(line, "flags", 5)) continue;
        char *rest = strchr(line, ':'), *state = NULL;
        for (char *flag = rest ? strtok_r(rest + 1, " \n", &state) : NULL; flag;
             flag = strtok_r(NULL, " \n", &state))
            found |= !strcmp(flag, feature);
        break;
    }
    free(line);
    if (file) fclose(file);
    return found;
}

#else
#error "gsqc-step runs on x86-64 and aarch64"
#endif

int machine_cores(void) {
    cpu_set_t cores;
    return sched_getaffinity(0, sizeof cores, &cores) ? 1 : CPU_COUNT(&cores);
}
