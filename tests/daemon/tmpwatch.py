"""tmpwatch(8), which Debian doesn't have, as its manual says: `tmpwatch [OPTIONS] HOURS DIRECTORY`.

Regular files, symlinks and empty directories go whose time is longer ago: the last access, or what
-m and -c ask for, or the latest of several. -l keeps symlinks, -d directories, -x a path.
"""

import argparse
import os
import stat
import time


def main() -> None:
    """Clean as the arguments say."""
    parser = argparse.ArgumentParser()
    for short, name in (("u", "atime"), ("m", "mtime"), ("c", "ctime")):
        parser.add_argument(f"-{short}", f"--{name}", dest=name, action="store_true")
    parser.add_argument("-l", "--nosymlinks", action="store_true")
    parser.add_argument("-d", "--nodirs", action="store_true")
    parser.add_argument("-x", "--exclude", action="append", default=[])
    parser.add_argument("hours", type=float)
    parser.add_argument("directory")
    wanted = parser.parse_args()
    asked = [name for name in ("atime", "mtime", "ctime") if getattr(wanted, name)] or ["atime"]
    asked = [f"st_{name}" for name in asked]

    def clean(directory: str) -> None:
        for name in os.listdir(directory):
            # Nothing may follow a symlink: that is an access, and makes it young.
            path = os.path.join(directory, name)
            kind = stat.S_IFMT(os.lstat(path).st_mode)
            if kind == stat.S_IFDIR:
                clean(path)
            age = time.time() - max(getattr(os.lstat(path), each) for each in asked)
            if age < wanted.hours * 3600 or path in wanted.exclude:
                continue
            if kind == stat.S_IFDIR and not wanted.nodirs and not os.listdir(path):
                os.rmdir(path)
            elif kind == stat.S_IFREG or (kind == stat.S_IFLNK and not wanted.nosymlinks):
                os.unlink(path)

    clean(wanted.directory)


main()
