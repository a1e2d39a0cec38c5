"""The demo's daemon, the cleaners that work against it, and a watch on the link from outside."""

import os
import sys
import time
from typing import Any

from ovl_linkd.commands.demo_world import SNAPSHOTS
from ovl_linkd.errors import UserError

LINK = "/run/ctrdl"
CONFIG = "/run/demo.yaml"
_DIRECTORY = "/run/ovl-linkd"  # what RuntimeDirectory= makes for the service
_LOG = f"{_DIRECTORY}/log"
_NOTIFY = f"{_DIRECTORY}/notify"
_PATIENCE = 60.0  # seconds for what takes a fraction of one, and many on an emulated machine
_PAUSE = 0.01  # seconds

_IN_MOVED_FROM, _IN_CREATE, _IN_DELETE = 0x40, 0x100, 0x200  # linux/inotify.h


def configure() -> None:
    """Write the configuration of the demo's daemon."""
    os.mkdir(_DIRECTORY)
    # In a user namespace the root directory belongs to a user that doesn't exist there.
    strange = os.stat("/").st_uid != 0
    unsafe = "    allow-unsafe-parent: true\n" if strange else ""
    with open(CONFIG, "w") as file:
        file.write(
            f"links:\n  ctrdl:\n    path: {LINK}\n    target: {SNAPSHOTS}\n{unsafe}"
            f"control-socket: {_DIRECTORY}/control.sock\n"
        )


def start() -> float:
    """Start `ovl-linkd run` and wait for its READY=1; the seconds it took. Raises UserError."""
    import select
    import socket
    import subprocess

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(_NOTIFY)
        began = time.perf_counter()
        with open(_LOG, "w") as log:
            daemon = subprocess.Popen(
                _command("run"),
                env=_environment() | {"NOTIFY_SOCKET": _NOTIFY},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = os.pidfd_open(daemon.pid)
        poll = select.poll()
        poll.register(notify, select.POLLIN)
        poll.register(end, select.POLLIN)
        while True:
            ready = dict(poll.poll(_PATIENCE * 1000))
            if notify.fileno() in ready:
                if b"READY=1" in notify.recv(4096).split(b"\n"):
                    os.close(end)
                    return time.perf_counter() - began
            else:
                raise UserError(f"the daemon is not ready: {_last_words()}")


def _last_words() -> str:
    with open(_LOG, errors="replace") as log:
        return log.read().strip()[-1000:] or "it said nothing"


def call(*words: str) -> bytes:
    """Run a subcommand; its standard output. Raises UserError unless it exits 0."""
    import subprocess

    done = subprocess.run(
        _command(*words),
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise UserError(f"`ovl-linkd {words[0]}` failed: {said}")
    return done.stdout


def show(*words: str) -> None:
    """Run a subcommand that writes to where the demo writes. Raises UserError unless it exits 0."""
    import subprocess

    done = subprocess.run(
        _command(*words), env=_environment(), stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        raise UserError(f"`ovl-linkd {words[0]}` exited {done.returncode}")


def last_repair() -> dict[str, Any]:
    """What the daemon says of its last repair: `found`, `took_us` and so on."""
    import json

    link: dict[str, Any] = json.loads(call("status", "--json"))["links"][0]
    if not link["last_repair"]:
        raise UserError(f"the daemon knows of no repair: {_last_words()}")
    repair: dict[str, Any] = link["last_repair"]
    return repair


def _command(name: str, *words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "ovl_linkd", name, "--config", CONFIG, *words]


def _environment() -> dict[str, str]:
    """Ours, but for what a service manager said to us; and this very program on the path."""
    import ovl_linkd

    for_us = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM")
    kept = {name: value for name, value in os.environ.items() if name not in for_us}
    package = os.path.dirname(os.path.dirname(os.path.abspath(ovl_linkd.__file__)))
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
    return kept | {"PYTHONPATH": ":".join(paths)}


class Watch:
    """inotify on the link's directory, as an outsider sees it."""

    def __init__(self) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        directory = os.fsencode(os.path.dirname(LINK))
        events = _IN_MOVED_FROM | _IN_CREATE | _IN_DELETE
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, directory, events) < 0:
            raise UserError(f"no inotify: {os.strerror(ctypes.get_errno())}")

        self._seen = 0

    def forget(self) -> None:
        """Forget what happened to the link up to now."""
        self._read()
        self._seen = 0

    def removed(self) -> bool:
        """Whether the link was removed since then."""
        self._read()
        return bool(self._seen & (_IN_DELETE | _IN_MOVED_FROM))

    def wait_until_made(self) -> float:
        """Wait until the link was made since then; when that was seen. Raises UserError.

        Then the processor is left to the daemon, which may have been held up right after its
        symlink(): it has yet to read the clock, to talk and to go back to sleep.
        """
        import select

        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        self._read()
        while not self._seen & _IN_CREATE:
            if not poll.poll(_PATIENCE * 1000):
                raise UserError(f"{LINK} did not come back: {_last_words()}")
            self._read()
        seen = time.perf_counter()
        time.sleep(_PAUSE)
        return seen

    def _read(self) -> None:
        import struct

        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        while data:
            _, mask, _, length = struct.unpack_from("iIII", data)
            if data[16 : 16 + length].rstrip(b"\0") == os.fsencode(os.path.basename(LINK)):
                self._seen |= mask
            data = data[16 + length :]


def clean(watch: Watch) -> str:
    """Have a cleaner of this machine take the link for an old file, and wait until it is back.

    Return what removed it: a cleaner, or rm where there is none. Raises UserError.
    """
    import subprocess

    for name, words in _cleaners():
        os.utime(LINK, (0, 0), follow_symlinks=False)
        watch.forget()
        subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if watch.removed():
            watch.wait_until_made()
            return name
    watch.forget()
    os.unlink(LINK)
    watch.wait_until_made()
    return f"rm {LINK} (neither systemd-tmpfiles nor tmpreaper did it here)"


def _cleaners() -> list[tuple[str, list[str]]]:
    import shutil

    rule = f"{_DIRECTORY}/tmpfiles.conf"
    with open(rule, "w") as file:
        file.write("d /run - - - m:10d\n")
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    found = []
    if tmpfiles := shutil.which("systemd-tmpfiles", path=path):
        name = 'systemd-tmpfiles --clean, with the rule "d /run - - - m:10d"'
        found.append((name, [tmpfiles, "--clean", rule]))
    if tmpreaper := shutil.which("tmpreaper", path=path):
        found.append(("tmpreaper", [tmpreaper, "--mtime", "--symlinks", "10d", "/run"]))
    return found


def remove_again(watch: Watch, times: int) -> list[float]:
    """Remove the link TIMES times; how long each time it was gone, in seconds, sorted."""
    gone = []
    for _ in range(times):
        watch.forget()
        began = time.perf_counter()
        os.unlink(LINK)
        gone.append(watch.wait_until_made() - began)
    return sorted(gone)
