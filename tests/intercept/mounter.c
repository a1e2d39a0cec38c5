/* A program that mounts an overlay by itself, in each of the ways that programs do it.
 *
 *     mounter WAY OPTIONS-FILE TARGET [COMMAND...]
 *
 * prints "mount: " and the errno of mount(2), 0 where it succeeded, then becomes COMMAND. The ways
 * are in the table at the end, and "chroot:DIRECTORY".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static const char *file, *target;
static char *options; /* what is in the file, and a NUL */
static size_t size;

static void die(const char *what)
{
    perror(what);
    exit(99);
}

static void *fresh(size_t bytes, int protection)
{
    void *place = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED)
        die("mmap");
    return place;
}

static size_t pages(size_t bytes)
{
    size_t page = sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

static void read_options(void)
{
    struct stat status;
    int from = open(file, O_RDONLY);
    if (from < 0 || fstat(from, &status))
        die(file);
    size = status.st_size;
    options = calloc(1, size + 1);
    if (read(from, options, size) != (ssize_t)size)
        die(file);
    close(from);
}

static void mount_with(const char *text)
{
    int error = mount("overlay", target, "overlay", 0, text) ? errno : 0;
    printf("mount: %d\n", error);
    fflush(stdout);
}

static void plainly(void) { mount_with(options); }
static void without_options(void) { mount_with(NULL); }
static void with_an_address_of_nothing(void) { mount_with((const char *)8); }

/* A constant of the program, as Go and Rust have them. */
static void from_private_read_only_memory(void)
{
    char *place = fresh(pages(size + 1), PROT_READ | PROT_WRITE);
    memcpy(place, options, size + 1);
    mprotect(place, pages(size + 1), PROT_READ);
    mount_with(place);
}

/* A file that nobody here may write. */
static void from_shared_read_only_memory(void)
{
    int from = open(file, O_RDONLY);
    char *place = mmap(NULL, pages(size + 1), PROT_READ, MAP_SHARED, from, 0);
    if (place == MAP_FAILED)
        die("mmap");
    mount_with(place);
    printf("unchanged: %d\n", memcmp(place, options, size) == 0);
    fflush(stdout);
}

/* Options that go on up to the last byte that can be read. */
static void without_an_end(void)
{
    size_t room = pages(size);
    char *place = fresh(room + pages(1), PROT_READ | PROT_WRITE);
    munmap(place + room, pages(1));
    memset(place, ',', room - size);
    memcpy(place + room - size, options, size);
    mount_with(place);
}

/* The end of a page without a NUL: what lies behind can't be read, so the kernel takes zeros. */
static void up_to_the_end_of_a_page(void)
{
    char *place = fresh(2 * pages(1), PROT_READ | PROT_WRITE);
    munmap(place + pages(1), pages(1));
    char *start = place + pages(1) - size;
    memcpy(start, options, size);
    mount_with(start);
}

static volatile sig_atomic_t alarms;
static void count(int number)
{
    (void)number;
    alarms++;
}

/* As the Go runtime does with SIGURG, all the time. */
static void under_signals(void)
{
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int round = 0; round < 200; round++) {
        /* Once only: what was written over must not help the next one. */
        char *copy = memcpy(malloc(size + 1), options, size + 1);
        if (mount("overlay", target, "overlay", 0, copy)) {
            setitimer(ITIMER_REAL, &never, NULL);
            printf("mount: %d in round %d\n", errno, round);
            exit(1);
        }
        free(copy);
        if (round < 199 && umount2(target, 0))
            die("umount2");
        if (round < 199 && umount2(target, 0) == 0) {
            printf("mounted twice in round %d\n", round);
            exit(1);
        }
    }
    setitimer(ITIMER_REAL, &never, NULL);
    printf("mount: 0\nsignals: %d\n", alarms > 0);
    fflush(stdout);
}

/* Where one of several threads mounts: on "merged" in its own working DIRECTORY. ERROR: what of it. */
struct place {
    const char *directory;
    char *options;
    int error;
};

static void *mount_below(void *argument)
{
    struct place *place = argument;
    if (unshare(CLONE_FS) || chdir(place->directory))
        die(place->directory);
    for (int round = 0; round < 50; round++) {
        char *copy = strdup(place->options);
        if (mount("overlay", "merged", "overlay", 0, copy)) {
            place->error = errno;
            return NULL;
        }
        free(copy);
        if (round < 49 && umount2("merged", 0)) {
            place->error = errno;
            return NULL;
        }
    }
    return NULL;
}

/* The file of options holds two lines; the target is two directories with a colon between. */
static void from_two_threads(void)
{
    char *second_options = strchr(options, '\n');
    char *directories = strdup(target), *second_directory = strchr(directories, ':');
    *second_options++ = *second_directory++ = '\0';
    struct place places[] = {{directories, options, 0}, {second_directory, second_options, 0}};
    pthread_t threads[2];
    for (int each = 0; each < 2; each++)
        pthread_create(&threads[each], NULL, mount_below, &places[each]);
    for (int each = 0; each < 2; each++) {
        pthread_join(threads[each], NULL);
        printf("mount: %d\n", places[each].error);
    }
    fflush(stdout);
}

static void write_to(const char *file, const char *text)
{
    int to = open(file, O_WRONLY);
    if (to < 0 || write(to, text, strlen(text)) < 0)
        die(file);
    close(to);
}

/* May do nothing with files from here on: "not mount" is what that always means. */
static void restrict_oneself(void)
{
    struct landlock_ruleset_attr attributes = {.handled_access_fs = LANDLOCK_ACCESS_FS_WRITE_FILE};
    int rules = syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
    if (rules < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        || syscall(SYS_landlock_restrict_self, rules, 0))
        die("landlock");
}

static void below_landlock(void)
{
    restrict_oneself();
    plainly();
}

static void in_a_mount_namespace(void)
{
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
        die("unshare");
    plainly();
}

static void in_a_user_namespace(void)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
        die("unshare");
    write_to("/proc/self/setgroups", "deny");
    write_to("/proc/self/uid_map", "0 0 1");
    write_to("/proc/self/gid_map", "0 0 1");
    plainly();
}

static void in_a_chroot(const char *root)
{
    if (chroot(root) || chdir("/"))
        die("chroot");
    plainly();
}

static const struct {
    const char *name;
    void (*mount)(void);
} ways[] = {
    {"plainly", plainly},
    {"null", without_options},
    {"unmapped", with_an_address_of_nothing},
    {"read-only", from_private_read_only_memory},
    {"shared", from_shared_read_only_memory},
    {"endless", without_an_end},
    {"page-end", up_to_the_end_of_a_page},
    {"signals", under_signals},
    {"threads", from_two_threads},
    {"landlock", below_landlock},
    {"mount-namespace", in_a_mount_namespace},
    {"user-namespace", in_a_user_namespace},
};

static void go(const char *way)
{
    if (!strncmp(way, "chroot:", 7)) {
        in_a_chroot(way + 7);
        return;
    }
    for (size_t each = 0; each < sizeof ways / sizeof *ways; each++)
        if (!strcmp(way, ways[each].name)) {
            ways[each].mount();
            return;
        }
    exit(97);
}

int main(int count, char **arguments)
{
    if (count < 4)
        return 98;
    file = arguments[2];
    target = arguments[3];
    read_options();
    go(arguments[1]);
    if (count > 4) {
        execvp(arguments[4], arguments + 4);
        die(arguments[4]);
    }
    return 0;
}
