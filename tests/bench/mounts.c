/* Times calls of mount(2).
 *
 * mounts other COUNT: as many calls for a file system that doesn't exist; one line, the nanoseconds
 * that all of them took.
 *
 * mounts overlay ROUNDS TARGET: mounts an overlay with the options on standard input on TARGET and
 * unmounts it; a line a round, the nanoseconds of mount(2). */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>

static char options[131072];

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int other(long count)
{
    int64_t began = now();
    for (long round = 0; round < count; round++)
        if (!mount("bench", "/", "no-such-system", 0, "a=b") || errno != ENODEV)
            return 1;
    printf("%lld\n", (long long)(now() - began));
    return 0;
}

static int overlay(long rounds, const char *target)
{
    options[fread(options, 1, sizeof options - 1, stdin)] = 0;
    while (rounds-- > 0) {
        int64_t began = now();
        if (mount("bench", target, "overlay", 0, options) < 0) {
            perror("mount");
            return 1;
        }
        printf("%lld\n", (long long)(now() - began));
        if (umount2(target, 0) < 0) {
            perror("umount");
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "other"))
        return other(atol(argv[2]));
    if (argc == 4 && !strcmp(argv[1], "overlay"))
        return overlay(atol(argv[2]), argv[3]);
    return 2;
}
