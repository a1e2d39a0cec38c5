"""Every system call fails, with every error: once, and for a while; and then it passes.

`make test` takes one call of each name, with the errors in turn; `make soak` every call, with
every error.
"""

import errno
import os
import shutil
import signal
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ovl_linkd import client
from ovl_linkd.commands.run import FAULTY
from tests.faults.forked import Forked
from tests.faults.scene import RUN, Scene
from tests.faults.supervised import KILL_CALLER, Call, go_on
from tests.soak import SOAK
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root")

ERRORS = (
    *(errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE, errno.ENOMEM, errno.EINTR),
    *(errno.EIO, errno.EBUSY, errno.EDQUOT),
)
#: Of those, what says of a file that it, and not the machine, is at fault.
LASTING = {errno.EACCES, errno.EROFS}
#: The calls that put a link right.
MAKING = ("symlink", "symlinkat", "renameat2", "mkdir", "mkdirat")

# What the kernel never answers with an error when its arguments are right; close(2) releases the
# descriptor whatever it says. recvfrom(2) is on the pipe by which signals wake the event loop.
_NEVER = frozenset((
    "close", "close_range", "lseek", "umask", "getsockname", "getpeername", "getsockopt", "fcntl",
    "dup2", "dup3", "wait4", "epoll_wait", "epoll_pwait", "poll", "ppoll", "recvfrom", "uname",
    "pidfd_open", "kill", "shutdown", "restart_syscall", "getrandom", "set_tid_address",
    "prlimit64", "listen_fds", "prctl", "fstat",
))  # fmt: skip
_STAT = ("newfstatat", "statx")


# What is a traceback in the log, and no more: asyncio complains when the loop can't be made, and
# asyncvarlink, for the one connection, when a client can't be listened to.
_EXCUSED = ("epoll_create", "socketpair", "epoll_ctl")


def can_fail(call: Call) -> bool:
    """Whether the kernel could answer CALL with an error at all."""
    if call.name in _STAT and not call.path:
        return False  # fstat(2)
    return call.name not in _NEVER


class Once:
    """The policy that fails the call number ``at`` with ``number``, or NUMBER if it is a kill.

    Counted are the calls that can fail; of each name one, and of those in ``names`` if there are
    any, but with SOAK all. ``forked``: of the processes that the daemon forks, and not its own.
    """

    def __init__(
        self, at: int, number: int, forked: bool = False, names: Collection[str] = ()
    ) -> None:
        self._left = at
        self.number = number
        self._forked = forked
        self._names = names
        self._seen: set[str] = set()
        self.call: Call | None = None

    def __call__(self, call: Call) -> int | None:
        if self.call or call.forked != self._forked or not can_fail(call):
            return None
        if not SOAK and (call.name in self._seen or call.name not in (self._names or {call.name})):
            return None
        self._seen.add(call.name)
        if self._left == 0:
            self.call = call
            return self.number
        self._left -= 1
        return None

    def __str__(self) -> str:
        name = errno.errorcode.get(self.number, "a kill")
        return f"{self.call} met {name}"


def failures(
    forked: bool = False,
    numbers: tuple[int, ...] = ERRORS,
    names: Collection[str] = (),
    least: int = 3,
) -> Iterator[Once]:
    """One for each call, until one is not met any more; with each of NUMBERS, or in turn.

    LEAST have to be met.
    """
    for turn in range(len(numbers) if SOAK else 1):
        for at in range(5000):
            failure = Once(at, numbers[(at + turn) % len(numbers)], forked, names)
            yield failure
            if failure.call is None:
                assert at >= least, "hardly a call was made"
                break


@contextmanager
def staged(scratch: Path, failure: object) -> Iterator[tuple[Scene, Forked]]:
    """A scene and a daemon that is not started; afterwards it must start as if nothing had been."""
    directory = scratch / "d"
    directory.mkdir(exist_ok=True)
    scene, daemon = Scene(scratch / "s", resync="1s"), Forked(directory)
    try:
        yield scene, daemon
        daemon.kill()
        assert not stumbled(daemon, failure)
        (directory / "log").write_text("")
        daemon.rule(None)
        daemon.start_by_default()
        scene.check()
        daemon.stop()
    except AssertionError as error:
        raise AssertionError(f"{failure}: {error}\n{daemon.log()[-2000:]}") from error
    finally:
        daemon.kill()
        scene.remove()
        (directory / "log").unlink(missing_ok=True)


def stumbled(daemon: Forked, failure: object) -> bool:
    """Whether there is a traceback in the log that FAILURE is no excuse for."""
    excused = any(excuse in str(failure) for excuse in _EXCUSED)
    return not excused and "Traceback" in daemon.log()


def all_well(scene: Scene, daemon: Forked) -> bool:
    """Whether every link that can be right is, and the daemon says so."""
    if daemon.dead or not scene.right(*scene.healed):
        return False
    links = status(daemon)
    return bool(links) and all(
        link["state"] == "ok" for link in links if link["name"] in scene.healed
    )


def status(daemon: Forked) -> list[dict[str, Any]]:
    """The links by the daemon's word, none without an answer."""
    try:
        links: list[dict[str, Any]] = client.call(daemon.socket, "Status", timeout=1)["links"]
    except (client.NotRunning, client.NoAnswer):
        return []
    return links


def hurt(scene: Scene) -> None:
    """What a cleaner and a rival do at once."""
    scene.links["missing"].unlink()
    scene.wrong("wrong")
    shutil.rmtree(scene.links["parentless"].parent)


# --- once ------------------------------------------------------------------------------------


def test_a_call_of_a_start_fails(scratch: Path) -> None:
    """It starts all the same, or ends with a reason, and not for good: systemd starts it anew."""
    for failure in failures():
        with staged(scratch, failure) as (scene, daemon):
            daemon.rule(failure)
            if daemon.begin():
                wait_until(lambda s=scene, d=daemon: all_well(s, d), "healed")  # type: ignore[misc]
            else:
                assert daemon.end() == 1
                assert "\n  hint: " in daemon.log()


def test_a_call_of_a_repair_fails(scratch: Path) -> None:
    for failure in failures():
        with staged(scratch, failure) as (scene, daemon):
            daemon.start_by_default()
            with daemon.frozen():
                hurt(scene)
                daemon.rule(failure)
            wait_until(lambda s=scene, d=daemon: all_well(s, d), "healed")  # type: ignore[misc]


def test_a_call_of_a_reload_fails(scratch: Path) -> None:
    """It is loaded, or refused, or not even heard; then the next attempt is as good as any."""
    for failure in failures():
        with staged(scratch, failure) as (scene, daemon):
            daemon.start_by_default()
            daemon.rule(failure)
            scene.change()
            assert loaded(daemon) or loaded(daemon)
            wait_until(lambda s=scene, d=daemon: all_well(s, d), "healed")  # type: ignore[misc]


def loaded(daemon: Forked) -> bool:
    """Have the configuration read anew; whether it was taken."""
    try:
        client.call(daemon.socket, "Reload", timeout=1)
    except (client.NotRunning, client.NoAnswer, client.CallError):
        return False
    return True


# --- the process that reads the configuration ------------------------------------------------


@pytest.mark.parametrize("how", ["fails", "kills"])
def test_a_call_of_the_reader_at_a_start(scratch: Path, how: str) -> None:
    """No memory, or no descriptor, for a moment is no faulty configuration (exit code 78, after
    which systemd does not try again): the links would be kept by nobody until a person comes.
    """
    for failure in failures(forked=True, numbers=ERRORS if how == "fails" else (KILL_CALLER,)):
        with staged(scratch, failure) as (scene, daemon):
            daemon.rule(failure)
            if daemon.begin():
                wait_until(lambda s=scene, d=daemon: all_well(s, d), "healed")  # type: ignore[misc]
            else:
                codes = {1, FAULTY} if failure.number in LASTING else {1}
                assert daemon.end() in codes
                assert "\n  hint: " in daemon.log()


def test_the_reader_is_killed_in_a_reload(scratch: Path) -> None:
    """By the kernel, for want of memory: said, and everything stays as it was."""
    for failure in failures(forked=True, numbers=(KILL_CALLER,)):
        with staged(scratch, failure) as (scene, daemon):
            daemon.start_by_default()
            daemon.rule(failure)
            scene.change()
            assert loaded(daemon) != bool(failure.call)
            if failure.call:
                assert "the process that reads it ended with -9" in daemon.log()
                assert loaded(daemon)
            wait_until(lambda s=scene, d=daemon: all_well(s, d), "healed")  # type: ignore[misc]


# --- for a while -----------------------------------------------------------------------------


class Outage:
    """The policy under which each call of one NAME fails, and all calls are counted."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.calls = self.failed = 0

    def __call__(self, call: Call) -> int | None:
        self.calls += 1
        if call.forked or call.name != self.name or not can_fail(call):
            return None
        self.failed += 1
        return self.number

    def __str__(self) -> str:
        return f"each {self.name} met {errno.errorcode[self.number]}"


def outages() -> list[tuple[str, int]]:
    """Names of calls that a running daemon makes, and errors; in `make test` a telling few."""
    if SOAK:
        # A call that never ends but by a signal is Python's to repeat (PEP 475), and no kernel's.
        lasting = [number for number in ERRORS if number != errno.EINTR]
        return [(name, number) for name in _RUNNING for number in lasting]
    return [
        ("link", errno.EIO),  # of a socket that is bound: whatever we make there is an event
        ("read", errno.EIO),  # of the events themselves
        ("ioctl", errno.EIO),  # of a file that is read to see whether it is still ours
        ("epoll_ctl", errno.ENOMEM),  # of a client, of a socket, of the reader's pipe
        ("openat", errno.EMFILE),
        ("accept4", errno.EACCES),  # as a security module says it: who came stays in the queue
        ("symlink", errno.ENOSPC),
        ("renameat2", errno.EROFS),
        ("mkdir", errno.EDQUOT),
        ("newfstatat", errno.EIO),
    ]


# What a daemon calls that runs, is hurt, and asked; test_every_call_has_its_outage holds it right.
_RUNNING = (
    "accept4", "bind", "clone", "epoll_ctl", "fchmod", "getdents64",
    "inotify_add_watch", "inotify_rm_watch", "ioctl", "link", "linkat", "listen", "mkdir",
    "newfstatat", "openat", "pipe2", "pwrite64", "read", "readlink", "readlinkat", "rename",
    "renameat2", "sendmsg", "sendto", "socket", "symlink", "symlinkat", "recvmsg", "setsockopt",
    "unlink", "unlinkat", "write",
)  # fmt: skip

WINDOW = 2.0 if SOAK else 0.4  # seconds of an outage
MOST_CALLS = 3000  # in an outage: a loop without end makes fifty thousand in a second


def trials(scene: Scene, daemon: Forked) -> None:
    """Everything that has a daemon do something, within WINDOW."""
    end = time.monotonic() + WINDOW
    hurt(scene)
    (RUN / "published.json").unlink(missing_ok=True)
    with ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(0.05)
            with suppress(OSError):
                connection.connect(daemon.socket)
                connection.sendall(b'{"method":"org.ovl-linkd.Control.Status"}\0')
                connection.recv(1)
        Path(daemon.socket).unlink(missing_ok=True)
        os.kill(daemon.pid, signal.SIGHUP)
        time.sleep(max(0.0, end - time.monotonic()))


@pytest.mark.parametrize(("name", "number"), outages())
def test_a_call_that_fails_for_a_while(scratch: Path, name: str, number: int) -> None:
    """No end, no loop without end, no flood of the log; said; and healed when it has passed."""
    outage = Outage(name, number)
    with staged(scratch, outage) as (scene, daemon):
        daemon.start_by_default()
        daemon.rule(outage)
        trials(scene, daemon)
        assert not daemon.dead
        assert outage.calls < MOST_CALLS
        assert len(daemon.log().splitlines()) < 100
        if name in MAKING:
            said_in(daemon, os.strerror(number))
        daemon.rule(go_on)
        wait_until(lambda: all_well(scene, daemon), "healed")
        assert loaded(daemon)


def test_a_daemon_that_only_stumbles_begins_anew(scratch: Path) -> None:
    """Here the pipe by which signals wake it can't be read, and is readable for ever."""

    def stumble(call: Call) -> int | None:
        return errno.EIO if call.name == "recvfrom" and not call.forked else None

    with staged(scratch, "socketpair") as (_, daemon):
        daemon.start_by_default()
        daemon.rule(stumble)
        os.kill(daemon.pid, signal.SIGHUP)
        assert daemon.end() == 1
        assert "more than 20 unexpected errors" in daemon.log()
        assert len(daemon.log().splitlines()) < 500


def said_in(daemon: Forked, what: str) -> None:
    """WHAT stands in the log and in the daemon's status."""
    assert what in daemon.log() or "failing" in daemon.log()  # a storm is told later
    links = wait_until(lambda: status(daemon), "an answer")
    assert any(what in (link["reason"] or "") for link in links), links


def test_every_call_has_its_outage(scratch: Path) -> None:
    """What is recorded of a run is what the outages name: a new kind of call gets one, too."""
    made: set[str] = set()

    def record(call: Call) -> None:
        if not call.forked and can_fail(call):
            made.add(call.name)

    with staged(scratch, "nothing") as (scene, daemon):
        daemon.start_by_default()
        daemon.rule(record)
        trials(scene, daemon)
        wait_until(lambda: all_well(scene, daemon), "healed")
    assert made <= set(_RUNNING)
