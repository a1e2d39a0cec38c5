"""A machine to try the service on: systemd booted as PID 1 in a container, in half a second.

Its root is the host's own, or another system, below a writable layer that is thrown away, so that
nothing but Debian's systemd-container is needed. What the host has enabled, its fstab and its
journal are hidden.
"""

import os
import shlex
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.waiting import OF_A_PROGRAM

TOP = Path(__file__).parents[2]
CHECKOUT = "/run/checkout"  # TOP inside
LINK = "/run/ctrdl"
TARGET = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
SERVICE = "ovl-linkd.service"

_HIDDEN = ("etc/systemd/system", "etc/tmpfiles.d", "etc/ovl-linkd", "var/log/journal")
_UNWANTED = ("getty.target", "systemd-logind.service", "dbus.socket", "dbus.service")
_CGROUP = "ovl-linkd-test-"  # and a process id
_OLDER = Path("/sys/fs/cgroup/systemd")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    """One container. What is put below ``root`` is there at the boot.

    ``installed`` is a tree that lies over the root of ``system``, the host by default; ``place`` an
    empty directory on a tmpfs. It has the host's network, or none. ``options`` are more of them for
    systemd-nspawn.
    """

    def __init__(
        self,
        installed: Path,
        place: Path,
        *options: str,
        system: Path = Path("/"),
        network: bool = False,
    ) -> None:
        self._place = place
        self._network = network
        self._options = options
        self.root = place / "root"
        self._cgroup = _own_cgroup() / f"{_CGROUP}{os.getpid()}"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        upper = place / "upper"
        for name in _HIDDEN:
            (upper / name).mkdir(parents=True)
            os.setxattr(upper / name, "trusted.overlay.opaque", b"y")
        for path in (place / "work", self.root):
            path.mkdir()
        layers = f"lowerdir={installed}:{system},upperdir={upper},workdir={place}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "-", self.root], check=True)
        (self.root / "etc/fstab").write_text("")
        for directory in ("etc", "var"):
            (self.root / directory / ".updated").touch()  # ConditionNeedsUpdate=: no ldconfig now
        for name in _UNWANTED:
            (self.root / "etc/systemd/system" / name).symlink_to("/dev/null")

    @property
    def on(self) -> bool:
        """Whether it has been booted."""
        return self._leader != 0

    @property
    def pid(self) -> int:
        """Its process 1, as seen from here; 0 while it is off."""
        return self._leader

    def enable(self, *units: str) -> None:
        """Enable UNITS, as an administrator would, before the boot."""
        command = ["systemctl", f"--root={self.root}", "--quiet", "enable", *units]
        subprocess.run(command, check=True)

    def write(self, path: str, text: str) -> None:
        """Have the file PATH say TEXT, before the boot or after it."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def have(self, program: Path, directory: str) -> None:
        """Have PROGRAM, a file of the checkout, in DIRECTORY, in the place of the host's own."""
        there = self.path(f"{directory}/{program.name}")
        there.unlink(missing_ok=True)
        there.symlink_to(Path(CHECKOUT) / program.relative_to(TOP))

    def boot(self, timeout: float = OF_A_PROGRAM) -> None:
        """Start, and wait until systemd has done all that a boot does."""
        self._cgroup.mkdir()
        address = self._place / "notify"
        command = [
            *("setsid", "systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot"),
            *("--register=no", "--keep-unit", "--console=pipe"),
            *("--notify-ready=yes", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            f"--bind-ro={TOP}:{CHECKOUT}",
            *(() if self._network else ("--private-network",)),
            *self._options,
            *(f"--machine=test-{os.getpid()}", "systemd.unit=multi-user.target"),
        ]
        join = f"echo $$ >{shlex.quote(str(self._cgroup))}/cgroup.procs"
        environment = {
            "PATH": _PATH,
            "NOTIFY_SOCKET": str(address),
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        }
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(address))
            with open(self._place / "console", "wb") as console:
                self._nspawn = subprocess.Popen(
                    ["sh", "-c", f"{join}; exec {shlex.join(command)}"],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                )
            try:
                self._wait_until_up(told, timeout)
            finally:
                address.unlink()

    def _wait_until_up(self, told: socket.socket, timeout: float) -> None:
        """As systemd-nspawn(1) says of --notify-ready."""
        told.settimeout(timeout)
        ready = False
        while not (ready and self._leader):
            try:
                message = told.recv(4096).decode()
            except TimeoutError:
                said = (self._place / "console").read_text(errors="replace")
                raise AssertionError(f"not up after {timeout:g} s:\n{said}") from None
            fields = dict(line.split("=", 1) for line in message.splitlines())
            self._leader = int(fields.get("X_NSPAWN_LEADER_PID", self._leader))
            ready |= fields.get("READY") == "1"

    def run(
        self, *command: str, code: int | None = 0, timeout: float = OF_A_PROGRAM
    ) -> subprocess.CompletedProcess[str]:
        """Run COMMAND inside. AssertionError, with all that it said, unless it ends with CODE."""
        enter = ("nsenter", "-t", str(self._leader), "-a", "env", "-i", f"PATH={_PATH}")
        done = subprocess.run(
            [*enter, "LANG=C.UTF-8", *command],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        said = f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        assert code in (None, done.returncode), said
        return done

    def systemctl(self, *words: str) -> str:
        """Run systemctl inside; what it printed."""
        return self.run("systemctl", *words).stdout.strip()

    def show(self, name: str, unit: str = SERVICE) -> str:
        """The property NAME of UNIT."""
        return self.systemctl("show", "--value", "--property", name, unit)

    def journal(self, *words: str) -> str:
        """The messages of this boot that WORDS choose, one a line; all that were sent by now."""
        self.run("journalctl", "--sync")
        command = ("journalctl", "-b", "-q", "--no-pager", "-o", "cat", *words)
        return self.run(*command, code=None).stdout  # 1 where nothing is found

    def path(self, inside: str) -> Path:
        """INSIDE as it is seen from here, with what is mounted in the machine while it runs."""
        top = Path(f"/proc/{self._leader}/root") if self._leader else self.root
        return top / inside.lstrip("/")

    def link(self, path: str = LINK) -> str | None:
        """What the symlink at PATH says; None if there is none."""
        try:
            return os.readlink(self.path(path))
        except OSError:
            return None

    def off(self) -> None:
        """Pull the plug; what was written to the disk stays."""
        if self._nspawn:
            if self._leader:
                os.kill(self._leader, signal.SIGKILL)
            else:
                self._nspawn.kill()
            self._nspawn.wait(OF_A_PROGRAM)
        self._nspawn, self._leader = None, 0
        # systemd-nspawn makes one of the same name in the older hierarchy, where there is one.
        for cgroup in (self._cgroup, _older(self._cgroup)):
            for directory, _, _ in os.walk(cgroup, topdown=False):
                os.rmdir(directory)

    def scrap(self) -> None:
        """Print its journal, which pytest shows where a test failed; take the machine apart."""
        if self.on:
            words = ("journalctl", "-q", "--no-pager", "-o", "short-precise")
            print(self.run(*words, code=None).stdout)
        self.off()
        subprocess.run(["umount", self.root], check=True)


def with_a_disk(installed: Path, scratch: Path, at: str, *options: str) -> Machine:
    """A machine for containers, off, in directories of SCRATCH. A disk is mounted AT.

    No layer of an overlay may lie in another one; and runc wants some calls of its own.
    """
    disk, place = scratch / "disk", scratch / "machine"
    for directory in (disk, place):
        directory.mkdir(mode=0o711)
    calls = "--system-call-filter=@keyring bpf"
    return Machine(installed, place, f"--bind={disk}:{at}", calls, *options)


def sweep() -> None:
    """Remove the cgroups that killed runs have left, but for those in which something runs."""
    for top in (_own_cgroup(), _older(_own_cgroup())):
        for left in top.glob(f"{_CGROUP}*"):
            if not Path("/proc", left.name.removeprefix(_CGROUP)).exists():
                for directory, _, _ in os.walk(left, topdown=False):
                    with suppress(OSError):  # EBUSY
                        os.rmdir(directory)


def _older(cgroup: Path) -> Path:
    """What lies at the place of CGROUP in the older hierarchy."""
    return _OLDER / cgroup.relative_to(_unified())


def _unified() -> Path:
    """Where the unified hierarchy of cgroups is, which need not be the only one."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return Path(next(words[1] for words in mounts if words[2] == "cgroup2"))


def _own_cgroup() -> Path:
    """The cgroup of this process in the unified hierarchy."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return _unified() / next(line[4:] for line in lines if line.startswith("0::"))
