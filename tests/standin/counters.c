// Counters, messages and what the environment sets: STANDIN_COUNT, STANDIN_DEVICES, STANDIN_TRACE, STANDIN_WORK.
#include "host.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// Recursive: standin_launch runs under it, and what it calls may count.
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
void standin_lock(void) { pthread_mutex_lock(&lock); }
void standin_unlock(void) { pthread_mutex_unlock(&lock); }

void standin_missing(const char *name) {
    fprintf(stderr, "stand-in: %s is not there: only its name is (tests/standin/README.md)\n", name);
    abort();
}

void standin_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "stand-in: ");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    abort();
}

void standin_say(const char *format, ...) {
    if (!getenv("STANDIN_TRACE")) return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "stand-in: ");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

bool standin_rests(void) {
    static int rests = -1;
    if (rests < 0) {
        const char *text = getenv("STANDIN_WORK");
        rests = text && strcmp(text, "off") == 0;
    }
    return rests;
}

int standin_devices(void) {
    const char *text = getenv("STANDIN_DEVICES");
    int devices = text ? atoi(text) : 1;
    return devices < 0 ? 0 : devices > 16 ? 16 : devices;
}

// Names are few (a dozen, and one for each kernel), so a search through them is quick enough.
enum { COUNTERS = 512 };
static struct {
    char name[80];
    uint64_t value;
} counters[COUNTERS];
static int used;

void standin_count(const char *name, uint64_t add) {
    standin_lock();
    int at = 0;
    while (at < used && strncmp(counters[at].name, name, sizeof counters[at].name - 1) != 0) at++;
    if (at == used && used < COUNTERS) {
        snprintf(counters[at].name, sizeof counters[at].name, "%s", name);
        used++;
    }
    if (at < COUNTERS) counters[at].value += add;
    standin_unlock();
}

uint64_t standin_counted(const char *name) {
    uint64_t value = 0;
    standin_lock();
    for (int at = 0; at < used; at++)
        if (strcmp(counters[at].name, name) == 0) value = counters[at].value;
    standin_unlock();
    return value;
}

// %p in STANDIN_COUNT is the process: workers of one run inherit one environment.
__attribute__((destructor)) static void write_counters(void) {
    const char *path = getenv("STANDIN_COUNT");
    if (!path || !*path) return;
    char name[4096] = "";
    const char *mark = strstr(path, "%p");
    if (mark) snprintf(name, sizeof name, "%.*s%d%s", (int)(mark - path), path, (int)getpid(), mark + 2);
    else snprintf(name, sizeof name, "%s", path);
    FILE *file = fopen(name, "w");
    if (!file) {
        fprintf(stderr, "stand-in: STANDIN_COUNT=%s can't be written\n", name);
        return;
    }
    for (int at = 0; at < used; at++) fprintf(file, "%s %llu\n", counters[at].name, (unsigned long long)counters[at].value);
    fclose(file);
}
