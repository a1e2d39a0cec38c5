/* The least that keeps symlinks, for the daemon to be compared with: inotify and symlink(2).
 *
 * loop DIRECTORY TARGET: each name that is removed from DIRECTORY is made again, as a symlink to
 * TARGET. It knows nothing of replaced links, parents, mounts or lost events. Writes a line when
 * its watch stands; ends by a signal. */
#include <limits.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

static _Alignas(struct inotify_event) char buffer[65536];

int main(int argc, char **argv)
{
    if (argc != 3 || chdir(argv[1]) < 0)
        return 2;
    int events = inotify_init1(IN_CLOEXEC);
    if (events < 0 || inotify_add_watch(events, ".", IN_DELETE | IN_MOVED_FROM) < 0)
        return 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        ssize_t size = read(events, buffer, sizeof buffer);
        if (size <= 0)
            return 1;
        for (char *at = buffer; at < buffer + size;) {
            struct inotify_event *event = (struct inotify_event *)at;
            if (event->len && symlink(argv[2], event->name) < 0)
                perror(event->name);
            at += sizeof *event + event->len;
        }
    }
}
