/* Removes symlinks and measures how long they are gone; the same for every keeper.
 *
 * remover one ROUNDS PAUSE DIRECTORY...: in every round, after PAUSE microseconds each, removes the
 * link `link` from each DIRECTORY in turn; a line a round, for each DIRECTORY the nanoseconds from
 * before unlink(2) to when the link is there again.
 *
 * remover all COUNT DIRECTORY: removes 0 to COUNT-1 from DIRECTORY, one right after the other; one
 * line, the nanoseconds from before the first and from after the last unlink(2) to when all are
 * there again.
 *
 * Whoever waits must not hold up who repairs. Looking for the name would take the directory's lock
 * (a tmpfs keeps no negative entries), and a watch of its own would make the kernel write each
 * event twice and add a wake-up to what is measured. So it's the directory's size that is looked
 * at: on a tmpfs it grows with every name, and fstat(2) reads it without a lock. One link is
 * waited for by looking without a pause, from another processor; many by a look every 50 us. Then
 * each is looked for by name. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 20000000000LL /* ns */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void nap(long microseconds)
{
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    nanosleep(&time, NULL);
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int open_directory(const char *path)
{
    int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        die(path);
    return directory;
}

static off_t size_of(int directory)
{
    struct stat status;
    if (fstat(directory, &status) < 0)
        die("fstat");
    return status.st_size;
}

static void await(int directory, off_t size, long pause)
{
    int64_t began = now();
    while (size_of(directory) < size) {
        if (pause)
            nap(pause);
        if (now() - began > PATIENCE) {
            fputs("the links did not come back\n", stderr);
            exit(3);
        }
    }
}

/* The directory grows a moment before its new name can be looked up. */
static void await_name(int directory, const char *name)
{
    char target[PATH_MAX];
    int64_t began = now();
    while (readlinkat(directory, name, target, sizeof target) < 0)
        if (errno != ENOENT || now() - began > PATIENCE)
            die(name);
}

static int64_t one(int directory)
{
    off_t size = size_of(directory);
    int64_t began = now();
    if (unlinkat(directory, "link", 0) < 0)
        die("link");
    await(directory, size, 0);
    await_name(directory, "link");
    return now() - began;
}

static void all(int directory, int count)
{
    char (*names)[12] = calloc(count, sizeof *names);
    for (int i = 0; i < count; i++)
        snprintf(names[i], sizeof *names, "%d", i);
    off_t size = size_of(directory);
    int64_t first = now();
    for (int i = 0; i < count; i++)
        if (unlinkat(directory, names[i], 0) < 0)
            die(names[i]);
    int64_t last = now();
    await(directory, size, 50);
    int64_t end = now();
    for (int i = 0; i < count; i++)
        await_name(directory, names[i]);
    printf("%lld %lld\n", (long long)(end - first), (long long)(end - last));
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "all")) {
        all(open_directory(argv[3]), atoi(argv[2]));
        return 0;
    }
    if (argc < 5 || strcmp(argv[1], "one"))
        return 2;
    int directories[16];
    for (int i = 4; i < argc && i < 20; i++)
        directories[i - 4] = open_directory(argv[i]);
    for (long round = atol(argv[2]); round > 0; round--) {
        for (int i = 4; i < argc && i < 20; i++) {
            nap(atol(argv[3]));
            printf("%lld%c", (long long)one(directories[i - 4]), i == argc - 1 ? '\n' : ' ');
        }
    }
    return 0;
}
