"""Who would miss the kept links: what `make uninstall` and the Debian package ask first.

    python -I -m ovl_linkd.dependents [--root DIRECTORY] [--remove-links]

prints every line of the system's configuration that names ovl-linkd or leads through a kept link,
and every supervisor of `ovl-linkd exec` that runs; exit code 3 if there are any. With
--remove-links it asks nothing and takes the links away, those that are as they should be: any other
symlink may be somebody else's.
"""

import glob
import os
import re
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ovl_linkd import config_files, supervisors
from ovl_linkd.formats import mount8
from ovl_linkd.links.ledger import Damaged, Ledger, path_of
from ovl_linkd.links.link import Link

#: glob patterns below the root: programs that mount overlays, each with its own configuration
FILES = (
    "etc/fstab",
    "etc/containerd/**/*.toml",
    "etc/crio/**/*.conf",
    "etc/docker/daemon.json",
    "etc/containers/**/*.conf",
    "var/lib/rancher/*/agent/etc/containerd/*.toml*",
)
#: what systemd reads units from (systemd.unit(5)); not /run/systemd/generator*, made from fstab
UNITS = (
    "etc/systemd/system",
    "etc/systemd/system.control",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
FOUND = 3  # exit code, another than that of a program which could not even start
_LARGEST = 1 << 20  # bytes of a file that somebody may have written by hand
# More than mount(8) carries by itself: 255 bytes of lowerdir from 2.39 on.
_FOR_THE_HELPER = re.compile(r"(?<![\w.-])lowerdir=[^\s,]{256}")


class Dependent(NamedTuple):
    """A line of a file, its number counted from 1, and what in it would be missed."""

    file: str
    line: int
    text: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}: {self.text.strip()}"


def find(links: Iterable[Link], root: str = "/", farm: str | None = None) -> list[Dependent]:
    """Every line below ROOT that depends on ovl-linkd, on one of LINKS or on the directory FARM."""
    names = {"ovl-linkd": re.compile(r"(?<![\w-])ovl-linkd(?:-runc)?(?![\w-])")}
    for path in [link.path for link in links] + ([farm] if farm else []):
        names[path] = re.compile(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])")
    if mount8.has_helper(root):
        names["mount.overlay"] = _FOR_THE_HELPER
    return [found for file in _files(root) for found in _in_file(file, names)]


def _files(root: str) -> Iterator[str]:
    seen = set()
    for pattern in FILES:
        for file in sorted(glob.glob(pattern, root_dir=root, recursive=True)):
            yield os.path.join(root, file)
    for place in UNITS:
        if (real := os.path.realpath(os.path.join(root, place))) in seen:
            continue  # /lib is /usr/lib on a merged /usr
        seen.add(real)
        for directory, directories, files in os.walk(os.path.join(root, place)):
            directories[:] = sorted(name for name in directories if not _ours(name))
            yield from (os.path.join(directory, name) for name in sorted(files) if not _ours(name))


def _ours(name: str) -> bool:
    """Whether NAME is a unit of ours, or drop-ins of one. A drop-in for another unit, which may be
    called ovl-linkd.conf, is what depends on us."""
    if name.endswith(".conf"):
        return False
    return name.startswith("ovl-linkd") or name.endswith((".wants", ".requires"))


def _in_file(file: str, names: dict[str, re.Pattern[str]]) -> Iterator[Dependent]:
    try:
        if not os.path.isfile(file) or os.path.getsize(file) > _LARGEST:
            return
        with open(file, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.read().splitlines()
    except OSError:
        return  # gone, or not for this user to see
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith(("#", ";")):
            continue
        for name, pattern in names.items():
            if pattern.search(line):
                yield Dependent(file, number, line, name)
                break


def configured(root: str = "/") -> tuple[tuple[Link, ...], str | None]:
    """The links and the farm of the system below ROOT; where its configuration is faulty, those of
    the last one that was not, as far as anybody knows them."""
    from ovl_linkd import published
    from ovl_linkd.config import ConfigError, load

    try:
        roots = tuple(os.path.join(root, place[1:]) for place in config_files.ROOTS)
        known: published.Published | None = published.of(load(None, roots), [])
    except ConfigError as error:
        print(f"{error.problems[0]}", file=sys.stderr)
        known = published.read(os.path.join(root, published.PATH[1:]))
    return (known.links, known.farm) if known else ((), None)


def remove(links: Iterable[Link], root: str = "/") -> None:
    """Take those of LINKS away that are symlinks to their targets. Raises OSError."""
    for link in links:
        path = os.path.join(root, link.path[1:])
        try:
            if os.readlink(path) == link.target:
                os.unlink(path)
            if link.guard != "none":
                os.rmdir(os.path.dirname(path))  # its own, and empty with the last one
        except OSError:
            continue  # nothing there, or no symlink, or not ours to change


def served() -> Iterator[str]:
    """Who runs under `ovl-linkd exec`: what comes after this version knows nothing of them."""
    for each in supervisors.running():
        command = " ".join(each.command)
        yield f"process {each.pid}: ovl-linkd exec serves what was started by: {command}"


def remove_farm(farm: str, root: str = "/") -> None:
    """Take the directory FARM away with its entries, if there is nothing else in it.

    What its ledger doesn't know is somebody else's, and without one nothing is known.
    """
    place = os.path.join(root, farm[1:])
    ledger = Ledger(path_of(place))
    try:
        memory = ledger.peek()
        if memory is None or os.path.islink(place):
            return
        remove([Link(x.id, f"{farm}/{x.id}", x.target) for x in memory.leases], root)
        if os.path.lexists(place):
            os.rmdir(place)
        os.unlink(ledger.path)
    except (Damaged, OSError):
        pass  # it stays, with what is in it


def main() -> int:
    """Run as a program; the exit code."""
    parser = ArgumentParser(prog="ovl_linkd.dependents")
    parser.add_argument("--root", metavar="DIRECTORY", default="/")
    parser.add_argument("--remove-links", action="store_true")
    options = parser.parse_args()
    links, farm = configured(options.root)
    if options.remove_links:
        remove(links, options.root)
        if farm:
            remove_farm(farm, options.root)
        return 0
    found = find(links, options.root, farm)
    lines = [*map(str, found), *(served() if options.root == "/" else ())]
    for line in lines:
        print(os.fsencode(line).decode(errors="backslashreplace"))
    return FOUND if lines else 0


if __name__ == "__main__":
    sys.exit(main())
