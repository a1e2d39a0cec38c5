"""What a farm must not forget: which ids were ever given, and what each entry stands for.

A text file beside the farm's directory. It grows by a line for each thing that happens, and is
written anew when most of its lines are history. Its times are seconds of one boot's CLOCK_BOOTTIME.
"""

import errno
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ovl_linkd.links.ids import IDS

_HEAD = "ovl-linkd farm 1"
# A batch of lines is one write(2), which no kill can cut; a full disk can, and a crash of the
# machine, which makes another boot. So the end of the file may be torn, but nothing before it.
_LINE = re.compile(
    rf"\+(?P<new>{IDS}) (?P<at>[0-9]+\.[0-9]+) (?P<target>/.*)"
    rf"|@(?P<asked>{IDS}) (?P<then>[0-9]+\.[0-9]+)"
    rf"|-(?P<gone>{IDS})"
    r"|mark (?P<mark>[0-9]{1,19})",
    re.DOTALL,
)


def path_of(farm: str) -> str:
    """Where the ledger of the farm in the directory FARM lies: beside it, and hidden."""
    head, tail = os.path.split(farm)
    return f"{head.rstrip('/')}/.{tail}.ovl-linkd-farm"


class Damaged(Exception):
    """The file does not say what a ledger says: it may not be believed in anything."""


class Taken(OSError):
    """Another process has written the file since we did: it is that one's now."""


class Lease(NamedTuple):
    """An entry: its id, the directory it leads to, and when it was last asked for, in seconds."""

    id: str
    target: str
    asked: float


class Memory(NamedTuple):
    """What a ledger said: of which boot, the highest id that may have been given, the entries."""

    boot: str
    mark: int
    leases: list[Lease]


class Ledger:
    """The file at ``path``. ``lines``: how many it has, to be judged by who knows how many count.

    Only one process writes it: whoever has taken it over last, by reading and rewriting it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines = 0
        self._seen: tuple[int, int] | None = None  # inode and size as we left it
        self._whole = 0  # bytes that count; what follows, an append() that failed has left
        self._held: int | None = None  # the descriptor of locked()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the file meanwhile, if there is one.

        Held for moments, never for long: an open file would keep its file system from being
        unmounted. Raises OSError, EAGAIN if another process is at it.
        """
        try:
            self._held, _ = self._open(os.O_RDONLY)
        except FileNotFoundError:
            self._held = None
        try:
            yield
        finally:
            if self._held is not None:
                os.close(self._held)
                self._held = None

    def read(self) -> Memory | None:
        """What the locked() file says; None where there is none. Raises Damaged, OSError.

        Whoever else has made it, while he could write there, would have us make names for him.
        """
        if self._held is None:
            return None
        status = os.fstat(self._held)
        if status.st_uid not in (0, os.geteuid()):
            raise Damaged(f"it belongs to user {status.st_uid}")
        with open(self._held, "rb", closefd=False) as file:
            return _understood(file.read())

    def peek(self) -> Memory | None:
        """As read(), for who only looks and must not be in the way of who writes."""
        try:
            with open(self.path, "rb", opener=_open_to_look) as file:
                return _understood(file.read())
        except FileNotFoundError:
            return None

    def rewrite(self, memory: Memory) -> None:
        """Have the locked() file say MEMORY and nothing else, atomically and durably.

        Another process that went on with the old one finds out. Raises OSError, and leaves what
        was there.
        """
        lines = [f"{_HEAD} {memory.boot}", reserved(memory.mark), *map(given, memory.leases)]
        spare = f"{self.path}.new"
        _unlink(spare)  # of a run that was killed
        descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(_encoded(lines))
                file.flush()
                os.fsync(descriptor)
                status = os.fstat(descriptor)
            if self._held is None:
                os.link(spare, self.path)  # and not over what another process has just begun
            else:
                os.rename(spare, self.path)
            self._keep_in_mind(status.st_ino, status.st_size, len(lines))
        finally:
            _unlink(spare)
        _sync_directory(self.path)

    def renew(self, memory: Memory) -> None:
        """As rewrite(), of the file that we have written until now, or that was removed."""
        with self.locked():
            if self._held is not None:
                self._insist(os.fstat(self._held))
            self.rewrite(memory)

    def append(self, lines: list[str], certain: bool = False) -> None:
        """Add LINES as one write(2), all or none of them; ``certain`` outlives a power cut.

        Raises FileNotFoundError if the file is gone, Taken, and other OSErrors, such as ENOSPC.
        """
        data = _encoded(lines)
        descriptor, status = self._open(os.O_WRONLY | os.O_APPEND)
        try:
            self._insist(status)
            try:
                if status.st_size > self._whole:
                    os.ftruncate(descriptor, self._whole)  # no line may follow half of another
                if os.write(descriptor, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
                if certain:
                    os.fsync(descriptor)
            except OSError:
                self._take_back(descriptor, status.st_ino)
                raise
        finally:
            os.close(descriptor)
        self._keep_in_mind(status.st_ino, self._whole + len(data), self.lines + len(lines))

    def _take_back(self, descriptor: int, inode: int) -> None:
        """Cut off what was written in vain; where that fails, too, the next append() does it."""
        size = self._whole
        try:
            os.ftruncate(descriptor, size)
        except OSError:
            size = os.fstat(descriptor).st_size
        self._seen = (inode, size)  # or it would pass for written by another process

    def _open(self, flags: int) -> tuple[int, os.stat_result]:
        """The file, locked (flock(2)): two daemons with one farm must not both write it. And its
        status, which changes no more."""
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self.path, flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(descriptor)
            if status.st_ino != os.stat(self.path).st_ino:
                raise BlockingIOError  # it was replaced before it was ours
        except BlockingIOError:
            os.close(descriptor)
            text = "another process is writing it"
            raise BlockingIOError(errno.EAGAIN, text, self.path) from None
        except OSError:
            os.close(descriptor)
            raise
        return descriptor, status

    def _insist(self, status: os.stat_result) -> None:
        """Raise Taken unless the file, with STATUS, is as we left it."""
        if (status.st_ino, status.st_size) != self._seen:
            what = "another process has written it: is there a second daemon with this farm?"
            raise Taken(errno.EBUSY, what, self.path)

    def _keep_in_mind(self, inode: int, size: int, lines: int) -> None:
        self._seen = (inode, size)
        self._whole = size
        self.lines = lines


def _open_to_look(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def given(lease: Lease) -> str:
    """The line that says that LEASE was given."""
    target = lease.target
    if "\\" in target or "\n" in target:
        target = target.replace("\\", "\\\\").replace("\n", "\\n")
    return f"+{lease.id} {lease.asked:.3f} {target}"


def asked(lease: Lease) -> str:
    """The line that says that LEASE was asked for again."""
    return f"@{lease.id} {lease.asked:.3f}"


def gone(lease: Lease) -> str:
    """The line that says that LEASE is over."""
    return f"-{lease.id}"


def reserved(mark: int) -> str:
    """The line that says that ids up to MARK may have been given."""
    return f"mark {mark}"


def _encoded(lines: Iterable[str]) -> bytes:
    return os.fsencode("".join([f"{line}\n" for line in lines]))


def _understood(data: bytes) -> Memory:
    """What DATA says, but for a last line that was torn: what it was to say never came about."""
    head, *lines = os.fsdecode(data).split("\n")[:-1] or [""]
    name, _, boot = head.rpartition(" ")
    if name != _HEAD:
        raise Damaged("it does not begin as a farm's ledger does")
    mark = -1
    leases: dict[str, Lease] = {}
    for number, line in enumerate(lines, 2):
        found = _LINE.fullmatch(line)
        if found is None:
            raise Damaged(f"line {number} is none of a farm's ledger")
        if found["new"]:
            name, at, target = found["new"], found["at"], found["target"]
            leases[name] = Lease(name, _target(target), float(at))
        elif found["asked"]:
            name = found["asked"]
            if name in leases:
                leases[name] = leases[name]._replace(asked=float(found["then"]))
        elif found["gone"]:
            leases.pop(found["gone"], None)
        else:
            mark = int(found["mark"])
    if mark < 0:
        raise Damaged("it does not say which ids were given")
    return Memory(boot, mark, list(leases.values()))


def _target(text: str) -> str:
    if "\\" not in text:
        return text
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _sync_directory(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
