"""inotify: what the kernel allows this user, and what of it is used."""

import os

from ovl_linkd.doctor.finding import MAYBE, NOTE, OK, WRONG, Finding

_SPARE_INSTANCES = 8
_SPARE_SHARE = 0.1  # of the watches


def findings(proc: str = "/proc", user: int | None = None) -> list[Finding]:
    """Whether there is room for another inotify instance and its watches.

    The limits are a user's: the daemon's where this runs as the daemon's user, root.
    """
    user = os.geteuid() if user is None else user
    instances, watches = _used(proc, user)
    found = [
        _of(proc, "instances", instances, _SPARE_INSTANCES, user),
        _of(proc, "watches", watches, None, user),
    ]
    if user != 0:
        found.append(Finding(NOTE, "the daemon is root's: run this as root for root's limits"))
    return found


def _of(proc: str, what: str, used: int, spare: int | None, user: int) -> Finding:
    try:
        with open(f"{proc}/sys/fs/inotify/max_user_{what}") as file:
            most = int(file.read())
    except (OSError, ValueError):
        why = "without it a link is looked at each resync-interval only"
        return Finding(WRONG, "there is no inotify here", why, "a kernel with CONFIG_INOTIFY_USER")
    text = f"inotify {what}: user {user} has {used:,} of {most:,}"
    spare = int(most * _SPARE_SHARE) if spare is None else spare
    if most - used > spare:
        return Finding(OK, text)
    mend = f"sysctl -w fs.inotify.max_user_{what}={max(2 * most, 128)}  # and into /etc/sysctl.d/"
    why = "without them a link is looked at each resync-interval only"
    return Finding(WRONG if used >= most else MAYBE, text, why, mend)


def _used(proc: str, user: int) -> tuple[int, int]:
    """How many instances and watches the processes of USER have open; shared ones count once.

    What can't be looked into counts as nothing: these numbers are at least so many.
    """
    instances = watches = 0
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            if os.stat(f"{proc}/{name}").st_uid != user:
                continue
            for number in os.listdir(f"{proc}/{name}/fd"):
                if os.readlink(f"{proc}/{name}/fd/{number}") == "anon_inode:inotify":
                    instances += 1
                    watches += _watches(f"{proc}/{name}/fdinfo/{number}")
        except OSError:
            continue  # it has ended, or closed it
    return instances, watches


def _watches(path: str) -> int:
    with open(path, "rb") as file:
        return sum(line.startswith(b"inotify ") for line in file)
