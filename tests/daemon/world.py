"""A real daemon, and a look at what it does, without sleeping: by its own notifications.

`Daemon` starts `ovl-linkd run --config FILE` as its own process and checks, when it ends, that
nothing went wrong that nobody asked about. `Daemon.until` waits by the `Monitor` method.
"""

import ctypes
import errno
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import pytest

import ovl_linkd
from ovl_linkd import client
from tests.waiting import OF_A_PROGRAM, PATIENCE, wait_until

Json = dict[str, Any]

RENAME_NOREPLACE = 1  # include/uapi/linux/fs.h
RENAME_EXCHANGE = 2
_AT_FDCWD = -100

MS_REMOUNT, MS_BIND, MS_RDONLY = 0x20, 0x1000, 1  # include/uapi/linux/mount.h

CODE = str(Path(ovl_linkd.__file__).parents[1])
# What a program of the tests is started with: the code under test, every warning an error.
PYTHON = [sys.executable, "-X", "dev", "-W", "error"]
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "NOTIFY_SOCKET")},
    "PYTHONPATH": CODE,
    "PYTHONDONTWRITEBYTECODE": "1",
}

# Python's development mode warns of callbacks over 0.1 s; on a loaded machine, and in the storms
# made here, that says nothing about the product.
_SLOW = re.compile(r"Executing <.*> took [0-9.]+ seconds$")
_LINE = re.compile(r"<[346]>\S")


def _libc(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def renameat2(old: str | Path, new: str | Path, flags: int) -> None:
    """renameat2(2): what neither os.rename nor mv does."""
    _libc("renameat2", _AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags)


def mount(source: str, point: str | Path, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2); read-only from now on as soon as a file is written there no more."""
    names = [os.fsencode(text) for text in (source, point, kind)]
    _as_soon_as_idle("mount", *names, flags, os.fsencode(data))


def umount(point: str | Path) -> None:
    """umount2(2) without MNT_DETACH: EBUSY, in the end, if anybody holds a descriptor in there."""
    _as_soon_as_idle("umount2", os.fsencode(point), 0)


def _as_soon_as_idle(name: str, *arguments: object) -> None:
    """A call that is EBUSY also for the moment in which a daemon looks at what lies there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return _libc(name, *arguments)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.001)


def command(
    *words: str | Path, environment: dict[str, str] | None = None, cwd: str | Path = "/"
) -> subprocess.CompletedProcess[str]:
    """Run `ovl-linkd WORDS` to its end; its exit code and what it wrote."""
    return subprocess.run(
        [*PYTHON, "-m", "ovl_linkd", *map(str, words)],
        env=ENVIRONMENT | (environment or {}),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=OF_A_PROGRAM,
        check=False,
    )


class Process(Protocol):
    """What is asked of a daemon's process."""

    pid: int

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class Daemon:
    """A running daemon of its own in DIRECTORY, configured by write() or by the text given."""

    def __init__(self, directory: Path, environment: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.config = directory / "config.yaml"
        self.socket = str(directory / "control.sock")
        self._log = directory / "log"
        self._environment = environment or {}
        self._said = 0  # bytes of the log that were looked at
        self._process: Process | None = None

    # -- configuration and life ---------------------------------------------------------------

    def write(self, links: Mapping[str, tuple[Path | str, Path | str]], **keys: Any) -> None:
        """Write a configuration of LINKS, name -> (path, target); KEYS with `_` for `-`."""
        whole: Json = {
            "control-socket": self.socket,
            "metrics-file": None,
            # The safety net must not be what a test sees at work.
            "resync-interval": "1h",
            **{key.replace("_", "-"): value for key, value in keys.items()},
            "links": {
                name: {"path": str(path), "target": str(target)}
                for name, (path, target) in links.items()
            },
        }
        self.write_raw(json.dumps(whole))  # JSON is YAML

    def write_raw(self, text: str) -> None:
        """Write the configuration as it stands."""
        self.config.write_text(text)

    @property
    def pid(self) -> int:
        """Of the running daemon."""
        assert self._process
        return self._process.pid

    def sleeps(self) -> int:
        """How often it has gone to sleep: each wake-up adds one, and no other program does."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("voluntary_ctxt"))
        return int(line.split()[1])

    def until_asleep(self) -> int:
        """Wait until it has nothing to do; its sleeps. Never of one that goes round and round.

        Who is about to sleep has the state already, and isn't counted yet: so two looks.
        """
        stat, looks = Path(f"/proc/{self.pid}/stat"), [-1]

        def asleep() -> bool:
            state = stat.read_text().rpartition(")")[2].split()[0]
            looks.append(self.sleeps() if state == "S" else -1)
            return looks[-1] == looks[-2] != -1

        wait_until(asleep, "it sleeps")
        return looks[-1]

    def wake_ups(self, seconds: float) -> int:
        """Over so many SECONDS in which nothing is done; time itself is what this is about."""
        before = self.until_asleep()
        time.sleep(seconds)
        return self.until_asleep() - before

    def start(self, python: Iterable[str] = PYTHON) -> None:
        """Start with the configuration written; return when it says READY=1 (sd_notify(3))."""
        self._start([*python, "-m", "ovl_linkd", "run", "--config", str(self.config)])

    def start_by_default(self) -> None:
        """Start with the configuration of the standard places."""
        self._start([*PYTHON, "-m", "ovl_linkd", "run"])

    def _start(self, words: list[str]) -> None:
        if not self._launch(words):
            self.kill()
            pytest.fail(f"the daemon never said READY=1; its log:\n{self.log()}")

    def _launch(self, words: list[str]) -> bool:
        """Run WORDS; whether it said READY=1."""
        name = self.directory / "notify"
        name.unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
            open(self._log, "ab") as log,
        ):
            notify.bind(str(name))
            # As if it led to the journal: that is where a line could be forged.
            stream = os.fstat(log.fileno())
            environment = ENVIRONMENT | {
                "NOTIFY_SOCKET": str(name),
                "JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}",
            }
            self._process = self._spawn(words, environment | self._environment, log)
            return self._ready(notify)

    def _spawn(self, words: list[str], environment: dict[str, str], log: IO[bytes]) -> Process:
        """The process that runs WORDS, its standard error led to LOG."""
        return subprocess.Popen(
            words, env=environment, cwd="/", stdin=subprocess.DEVNULL, stderr=log
        )

    def _ready(self, notify: socket.socket) -> bool:
        """Wait for READY=1 at NOTIFY; whether it came. It doesn't from a process that ended."""
        end = os.pidfd_open(self.pid)
        try:
            while True:
                readable, _, _ = select.select([notify.fileno(), end], [], [], OF_A_PROGRAM)
                if notify.fileno() not in readable:
                    return False
                if b"READY=1" in notify.recv(4096).split(b"\n"):
                    return True
        finally:
            os.close(end)

    def stop(self) -> None:
        """Stop by SIGTERM, and check that it ended well and had nothing to complain of."""
        assert self._process
        self._process.terminate()
        code = self._process.wait(OF_A_PROGRAM)
        self._process = None
        self._check_log()
        assert code == 0, self.log()
        assert not os.path.lexists(self.socket), "the socket outlived its daemon"

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def running(self) -> bool:
        """Whether it was started and not yet stopped."""
        return self._process is not None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped by SIGSTOP meanwhile: no event is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    # -- what it says -------------------------------------------------------------------------

    def log(self) -> str:
        """Everything on standard error, since the first start."""
        return self._log.read_text(errors="surrogateescape")

    def _check_log(self) -> None:
        lines = [line for line in self.log().splitlines() if not _SLOW.fullmatch(line)]
        odd = [line for line in lines if not _LINE.match(line) or "a call failed" in line]
        assert not odd, "\n".join(["unexpected on standard error:", *odd[:20]])

    def call(self, method: str, **parameters: Any) -> Json:
        """Call METHOD of the control interface."""
        return client.call(self.socket, method, timeout=PATIENCE, **parameters)

    def link(self, name: str) -> Json:
        """What the daemon last saw of the link NAME."""
        link: Json = self.call("Status", names=[name])["links"][0]
        return link

    def until(self, name: str, wanted: Callable[[Json], bool]) -> Json:
        """Wait until the link NAME is as WANTED says, by the daemon's own word; the link."""
        with monitor(self.socket) as replies:
            for reply in replies:
                for link in reply["links"]:
                    if link["name"] == name and wanted(link):
                        found: Json = link
                        return found
        raise AssertionError("the daemon ended its Monitor")

    def until_state(self, name: str, state: str) -> Json:
        """Wait until the link NAME is in STATE."""
        return self.until(name, lambda link: bool(link["state"] == state))

    @contextmanager
    def repairing(self, name: str, found: str | None = None) -> Iterator[None]:
        """Wait, at the end, until the link NAME was put right again, and check the disk."""
        before = self.link(name)["repairs"]
        yield
        after = self.until(
            name, lambda link: link["repairs"] > before and link["state"] in ("ok", "dangling")
        )
        assert os.readlink(after["path"]) == after["target"]
        if found:
            assert after["last_repair"]["found"] == found

    def changes(self, act: Callable[[], None], name: str) -> list[Json]:
        """The states of the link NAME that Monitor tells of while ACT is done and after it.

        A second link, `sentinel`, is removed last: inotify keeps the order, so that when it is
        back everything before it was seen.
        """
        seen = []
        with monitor(self.socket) as replies:
            next(replies)
            before = self.link("sentinel")
            act()
            os.unlink(before["path"])
            for reply in replies:
                seen += [link for link in reply["links"] if link["name"] == name]
                back = [link for link in reply["links"] if link["name"] == "sentinel"]
                if any(link["repairs"] > before["repairs"] for link in back):
                    return seen
        raise AssertionError("the daemon ended its Monitor")


@contextmanager
def monitor(path: str) -> Iterator[Iterator[Json]]:
    """The replies of Monitor at the socket PATH; each comes in time or fails the test."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(OF_A_PROGRAM)  # with ten thousand links, all of them put right first
        connection.connect(path)
        send(connection, {"method": "org.ovl-linkd.Control.Monitor", "more": True})
        yield (reply["parameters"] for reply in replies_of(connection))


def send(connection: socket.socket, message: Json) -> None:
    """One Varlink message."""
    connection.sendall(json.dumps(message).encode() + b"\0")


def replies_of(connection: socket.socket) -> Iterator[Json]:
    """Varlink messages as they come, until the other side closes."""
    buffer = b""
    while True:
        while b"\0" in buffer:
            message, buffer = buffer.split(b"\0", 1)
            yield json.loads(message)
        data = connection.recv(65_536)
        if not data:
            return
        buffer += data
