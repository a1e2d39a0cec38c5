/* Calls mount(2) as nobody should: `fuzzer SEED SECONDS TARGET OPTIONS-FILE`.
 *
 * Addresses of nothing, texts without an end, texts that change while they are read, threads that
 * change to new mount namespaces, callers that are killed. Between them come calls that are right,
 * with the options in the file, which are longer than a page: each must succeed, with all layers.
 * Prints how many calls there were, "calls: N", and how many right ones beside them, "right: N".
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *target;
static char *right;
static size_t size, page;
static int layers;
static time_t deadline;

static void die(const char *what)
{
    perror(what);
    _exit(99);
}

/* xorshift64: a state for each thread. */
static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static char *map(size_t bytes, int protection)
{
    char *place = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED)
        die("mmap");
    if (!(protection & PROT_WRITE))
        mprotect(place, bytes, protection);
    return place;
}

/* TEXT so that its last byte, without a NUL, is the last one that can be read; in MAPPED bytes. A
 * hole behind it would soon be another thread's, and be unmapped as if it were ours. */
static char *at_the_edge(const char *text, size_t bytes, size_t *mapped)
{
    size_t room = (bytes + page - 1) / page * page;
    *mapped = room + page;
    char *place = map(*mapped, PROT_READ | PROT_WRITE);
    mprotect(place + room, page, PROT_NONE);
    return memcpy(place + room - bytes, text, bytes);
}

/* An address of some kind; in ROOM, if it is in memory made for it, where to unmap how many BYTES. */
static void *odd(uint64_t *state, char **room, size_t *bytes)
{
    *bytes = 2 * page;
    switch (next(state) % 14) {
    case 0: return NULL;
    case 1: return (void *)(next(state) % 4096);
    case 2: return (void *)next(state);
    case 3: return (void *)0xffff888000000000;
    case 4: return (void *)-1;
    case 5: return *room = map(*bytes, PROT_NONE);
    case 6: return *room = map(*bytes, PROT_READ);
    case 7: return (*room = map(*bytes, PROT_READ | PROT_WRITE)) + page - next(state) % 16;
    case 8: return *room = at_the_edge("overlay", 7, bytes);
    case 9: return *room = at_the_edge("overlay", 8, bytes);
    case 10: return *room = at_the_edge(right, next(state) % size + 1, bytes);
    case 11:
        *bytes = 3 << 20;
        *room = map(*bytes, PROT_READ | PROT_WRITE);
        return memset(*room, "a,:\\"[next(state) % 4], *bytes - next(state) % 2);
    case 12: {
        *room = map(*bytes, PROT_READ | PROT_WRITE);
        for (size_t at = 0; at < *bytes; at++)
            (*room)[at] = "lowerdir=:,\\/+\"\n\377"[next(state) % 17];
        return *room;
    }
    default: return right;
    }
}

static volatile int changing = 1;
static char *changed, *changed_type;

/* Options and types that are now this and now that. */
static void *change(void *nothing)
{
    for (unsigned round = 0; changing; round++) {
        changed[0] = changed[0] == 'l' ? 'X' : 'l';
        changed[size / 2] = changed[size / 2] == '/' ? 0 : '/';
        changed_type[0] ^= 'o' ^ 'x';
        if (round % 7 == 0)
            sched_yield();
    }
    return nothing;
}

/* How many names are in DIRECTORY; none of them begins with a dot. */
static int entries(const char *directory)
{
    DIR *stream = opendir(directory);
    int found = 0;
    while (stream && readdir(stream))
        found++;
    if (stream)
        closedir(stream);
    return found - 2;
}

static long calls, rights;

/* A mount that is right, and has all layers. In the thread's own namespace. */
static void mount_rightly(char *options)
{
    char only[4096];
    if (mount("o", target, "overlay", 0, options)) {
        printf("a right mount failed: %s\n", strerror(errno));
        fflush(stdout);
        _exit(1);
    }
    snprintf(only, sizeof only, "%s/only", target);
    if (entries(only) != layers) {
        printf("%d layers instead of %d\n", entries(only), layers);
        fflush(stdout);
        _exit(1);
    }
    if (umount2(target, MNT_DETACH))
        die("umount2");
    __atomic_add_fetch(&rights, 1, __ATOMIC_RELAXED);
}

static void call_oddly(uint64_t *state)
{
    static const unsigned long flags[] = {0, 0, 0, 0, 1, 0x20, 0x1000, 0x2000, 0x40000,
                                          0xC0ED0000, 0xC0ED1000, 0x80000000, 1UL << 40};
    char *rooms[3] = {NULL, NULL, NULL};
    size_t bytes[3];
    void *type = next(state) % 3 ? (void *)"overlay" : odd(state, &rooms[0], &bytes[0]);
    void *options = odd(state, &rooms[1], &bytes[1]);
    void *point = next(state) % 3 ? (void *)"/nowhere" : odd(state, &rooms[2], &bytes[2]);
    if (next(state) % 8 == 0)
        options = changed;
    if (next(state) % 8 == 0)
        type = changed_type;
    syscall(SYS_mount, "o", point, type, flags[next(state) % 13], options);
    for (int each = 0; each < 3; each++)
        if (rooms[each])
            munmap((void *)((uintptr_t)rooms[each] / page * page), bytes[each]);
    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
}

/* A child that is killed somewhere in the middle of what it does. */
static void be_killed(uint64_t *state)
{
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            char *copy = memcpy(malloc(size + 1), right, size + 1);
            if (!mount("o", target, "overlay", 0, copy))
                umount2(target, MNT_DETACH);
            free(copy);
        }
    }
    struct timespec moment = {0, next(state) % 2000000};
    nanosleep(&moment, NULL);
    kill(child, SIGKILL);
    if (waitpid(child, NULL, 0) != child)
        die("waitpid");
}

static void *run(void *argument)
{
    uint64_t state = (uintptr_t)argument * 0x9E3779B97F4A7C15;
    if (unshare(CLONE_FS | CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
        die("unshare");
    while (time(NULL) < deadline) {
        for (int each = 0; each < 20; each++)
            call_oddly(&state);
        if (next(&state) % 4 == 0)
            be_killed(&state);
        if (next(&state) % 8 == 0 && unshare(CLONE_NEWNS))
            die("unshare");
        /* Left by a child that was killed between its two calls; and by an odd call that worked. */
        while (!umount2(target, MNT_DETACH))
            ;
        char *copy = memcpy(malloc(size + 1), right, size + 1);
        mount_rightly(copy);
        free(copy);
    }
    return NULL;
}

int main(int count, char **arguments)
{
    if (count != 5)
        return 98;
    page = sysconf(_SC_PAGESIZE);
    deadline = time(NULL) + atoi(arguments[2]);
    target = arguments[3];
    struct stat status;
    int file = open(arguments[4], O_RDONLY);
    if (file < 0 || fstat(file, &status))
        die(arguments[4]);
    size = status.st_size;
    right = calloc(1, size + 1);
    if (read(file, right, size) != (ssize_t)size)
        die(arguments[4]);
    for (const char *at = right; (at = strstr(at, "/fs")); at++)
        layers++;
    changed = strcpy(map((size + page) / page * page, PROT_READ | PROT_WRITE), right);
    changed_type = strcpy(map(page, PROT_READ | PROT_WRITE), "overlay");
    pthread_t changer, threads[3];
    pthread_create(&changer, NULL, change, NULL);
    for (uintptr_t each = 0; each < 3; each++)
        pthread_create(&threads[each], NULL, run, (void *)(atol(arguments[1]) * 3 + each + 1));
    for (int each = 0; each < 3; each++)
        pthread_join(threads[each], NULL);
    changing = 0;
    pthread_join(changer, NULL);
    printf("calls: %ld\nright: %ld\n", calls, rights);
    return 0;
}
