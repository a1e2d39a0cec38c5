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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ovl_linkd import client
from ovl_linkd.commands.run import FAULTY
from ovl_linkd.service import report
from tests.daemon.world import monitor
from tests.faults.forked import Forked
from tests.faults.policies import (
    ERRORS,
    MOST_CALLS,
    WINDOW,
    Outage,
    can_fail,
    failures,
    here,
    stumbled,
    told,
)
from tests.faults.scene import RUN, Scene
from tests.faults.supervised import KILL_CALLER, Call, go_on
from tests.soak import SOAK
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.needs("root")

#: What says of a file that it, and not the machine, is at fault.
LASTING = {errno.EACCES, errno.EROFS}
#: The calls that put a link right.
MAKING = ("symlink", "symlinkat", "renameat2", "mkdir", "mkdirat")


@contextmanager
def staged(scratch: Path, failure: object) -> Iterator[tuple[Scene, Forked]]:
    """A scene and a daemon that is not started; afterwards it must start as if nothing had been."""
    directory = scratch / "d"
    directory.mkdir(exist_ok=True)
    scene, daemon = Scene(scratch / "s", resync="1s"), Forked(directory)
    try:
        with told(failure, daemon):
            yield scene, daemon
            daemon.kill()
            assert not stumbled(daemon, failure)
            (directory / "log").write_text("")
            daemon.rule(None)
            daemon.start_by_default()
            scene.check()
            daemon.stop()
    finally:
        daemon.kill()
        scene.remove()
        (directory / "log").unlink(missing_ok=True)


def all_well(scene: Scene, daemon: Forked) -> bool:
    """Whether every link that can be right is, and the daemon says so."""
    if daemon.dead or not scene.right(*scene.healed):
        return False
    links = status(daemon)
    return bool(links) and all(
        link["state"] == "ok" for link in links if link["name"] in scene.healed
    )


def until_healed(scene: Scene, daemon: Forked) -> None:
    """Wait until all is well."""
    wait_until(lambda: all_well(scene, daemon), "healed")


def status(daemon: Forked) -> list[dict[str, Any]]:
    """The links by the daemon's word, none without an answer."""
    try:
        links: list[dict[str, Any]] = client.call(daemon.socket, "Status")["links"]
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
                until_healed(scene, daemon)
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
            until_healed(scene, daemon)


def test_a_call_of_a_reload_fails(scratch: Path) -> None:
    """It is loaded, or refused, or not even heard; then the next attempt is as good as any."""
    for failure in failures():
        with staged(scratch, failure) as (scene, daemon):
            daemon.start_by_default()
            daemon.rule(failure)
            scene.change()
            assert daemon.reloaded_in_the_end()
            until_healed(scene, daemon)


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
                until_healed(scene, daemon)
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
            assert daemon.reloaded() != bool(failure.call)
            if failure.call:
                assert "the process that reads it ended with -9" in daemon.log()
                assert daemon.reloaded()
            until_healed(scene, daemon)


# --- for a while -----------------------------------------------------------------------------


# What is not said: it harms nobody, or the one client, or there is nobody to say it to.
_UNSAID = {
    "inotify_rm_watch",  # one watch too many, until the next start
    "recvmsg",  # of one connection, at whose other end that is an answer, too
    "sendmsg",
    "sendto",  # of the service manager, which is told again
    "setsockopt",  # of a buffer's size, and of what is out of band
    "write",  # of the log itself, or of what wakes the event loop
}


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
        ("inotify_rm_watch", errno.EIO),
        ("clone", errno.ENOMEM),
    ]


# What a daemon calls that runs, is hurt, and asked; test_every_call_has_its_outage holds it right.
_RUNNING = (
    "accept4", "bind", "clone", "epoll_ctl", "fchmod",
    "inotify_add_watch", "inotify_rm_watch", "ioctl", "link", "listen", "mkdir",
    "newfstatat", "openat", "pipe2", "pwrite64", "read", "readlink", "readlinkat", "rename",
    "renameat2", "sendmsg", "sendto", "socket", "symlink", "symlinkat", "recvmsg", "setsockopt",
    "unlink", "unlinkat", "write",
)  # fmt: skip


def trials(scene: Scene, daemon: Forked) -> None:
    """Everything that has a daemon do something, within WINDOW."""
    end = time.monotonic() + WINDOW
    parent, aside = scene.links["stale"].parent, scene.top.with_name("aside")
    with daemon.frozen():
        hurt(scene)
        parent.rename(aside)
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
    with daemon.frozen():
        shutil.rmtree(parent, ignore_errors=True)
        aside.rename(parent)


@pytest.mark.parametrize(("name", "number"), outages())
def test_a_call_that_fails_for_a_while(
    scratch: Path, name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No end, no loop without end, no flood of the log; said; and healed when it has passed."""
    monkeypatch.setattr(report, "MOST_LINES", 40)  # or a line for all of them may be what says it
    outage = Outage(name, number)
    with staged(scratch, outage) as (scene, daemon):
        daemon.start_by_default()
        daemon.rule(outage)
        trials(scene, daemon)
        assert outage.calls < MOST_CALLS
        wait_until(lambda: outage.failed, "met")  # what puts files back rests for a second
        if name not in _UNSAID:
            wait_until(lambda: os.strerror(number) in daemon.log(), "said")
        assert not daemon.dead
        assert len(daemon.log().splitlines()) < 100
        if name in MAKING:
            said_by(daemon, os.strerror(number))
        daemon.rule(go_on)
        until_healed(scene, daemon)
        assert daemon.reloaded()


def test_who_can_t_be_answered_is_not_left_waiting(scratch: Path) -> None:
    """One that waits for news does so without an end: `status --watch` would show what was."""
    outage = Outage("sendmsg", errno.ENOMEM)
    with staged(scratch, outage) as (scene, daemon):
        daemon.start_by_default()
        with monitor(daemon.socket) as replies:
            next(replies)
            daemon.rule(outage)
            with daemon.frozen():  # or what it hurts may be put right in the middle of it
                hurt(scene)
            assert list(replies) == []
        with pytest.raises(client.NoAnswer, match="closed the connection"):
            client.call(daemon.socket, "Status", timeout=PATIENCE)
        daemon.rule(go_on)
        until_healed(scene, daemon)


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


def said_by(daemon: Forked, what: str) -> None:
    """WHAT stands in the daemon's status."""
    wait_until(lambda: any(what in (link["reason"] or "") for link in status(daemon)), "in status")


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
        until_healed(scene, daemon)
    assert made <= {*_RUNNING, *map(here, _RUNNING)}
