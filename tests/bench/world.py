"""Where the benchmarks run, and the real processes that they measure.

A mount namespace of their own with fresh file systems on /run and /var/lib: the daemon has its
default paths, and nothing outside sees or feels any of it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ovl_linkd.overlay import mounting

HERE = Path(__file__).parent
PLACE = Path("/run/bench")  # on a tmpfs, as the product's own links are
STORE = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots"
PATIENCE = 60.0  # seconds


def enter() -> None:
    """Move this process into the private world. Raises OSError without CAP_SYS_ADMIN."""
    mounting.private_mount_namespace()
    for directory in ("/run", "/var/lib"):
        mounting.mount("bench", directory, "tmpfs", 0, b"mode=0755")
    for directory in ("/etc/ovl-linkd", "/usr/lib/ovl-linkd"):
        if os.path.isdir(directory):  # the machine's own configuration is not what is measured
            mounting.mount("bench", directory, "tmpfs", 0, b"mode=0755")
    PLACE.mkdir()
    os.makedirs(STORE)


def environment() -> dict[str, str]:
    """For measured processes: Python's as people have it, byte code kept where it goes away."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if path := os.environ.get("PYTHONPATH"):
        kept["PYTHONPATH"] = path
    kept.pop("WATCHDOG_USEC", None)
    return {**kept, "PYTHONPYCACHEPREFIX": f"{PLACE}/bytecode"}


def compiled(name: str) -> str:
    """The path of the program NAME.c, compiled now."""
    program = PLACE / name
    command = ["cc", "-O2", "-Wall", "-o", str(program), str(HERE / f"{name}.c")]
    subprocess.run(command, check=True)
    return str(program)


def processors() -> tuple[int, int] | None:
    """One processor for who repairs and another one for who measures, if there are two."""
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else None


def fresh(name: str) -> Path:
    """An empty directory in the place."""
    directory = PLACE / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    return directory


def configuration(name: str, links: Sequence[tuple[str, str]]) -> str:
    """Write a configuration with LINKS, (path, target) each, and a socket of its own."""
    lines = ["links:"]
    for number, (path, target) in enumerate(links):
        lines += [f"  link{number}:", f"    path: {path}", f"    target: {target}"]
    lines += [f"control-socket: {PLACE}/{name}.sock", f"metrics-file: {PLACE}/{name}.prom"]
    file = PLACE / f"{name}.yaml"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


@contextmanager
def with_a_farm(path: str) -> Iterator[None]:
    """The standard daemon, if it is started now, also keeps a farm at PATH."""
    file = Path("/run/ovl-linkd/config.yaml.d/farm.yaml")
    file.parent.mkdir(parents=True)
    file.write_text(f"farm:\n  path: {path}\n")
    try:
        yield
    finally:
        shutil.rmtree(file.parent)


class Process:
    """A process that is measured from outside."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu(self) -> float:
        """Processor time used so far, seconds (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.pid << 3) | 2)

    def wakeups(self) -> int:
        """How often it has gone to sleep or was put off the processor."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines())
        return int(fields["voluntary_ctxt_switches"]) + int(fields["nonvoluntary_ctxt_switches"])

    def memory(self) -> tuple[float, float]:
        """Proportional and resident size, MiB (proc_pid_smaps(5))."""
        sizes = {"Pss": 0.0, "Rss": 0.0}
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, _, rest = line.partition(":")
            if name in sizes:
                sizes[name] = int(rest.split()[0]) / 1024
        return sizes["Pss"], sizes["Rss"]

    def settle(self, quiet: float = 0.05) -> None:
        """Wait until it has used no processor time for QUIET seconds."""
        deadline = time.monotonic() + PATIENCE
        before = -1.0
        while (used := self.cpu()) != before:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} does not come to rest")
            before = used
            time.sleep(quiet)


def pin(pid: int, processor: int | None) -> None:
    """Keep PID on PROCESSOR; on any if that is None."""
    if processor is not None:
        os.sched_setaffinity(pid, {processor})


def put_first(pid: int) -> None:
    """Have PID run before everything else on its processor (sched(7), SCHED_FIFO)."""
    os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))


@contextmanager
def daemon(config: str | None = None, on: int | None = None) -> Iterator[tuple[Process, float]]:
    """The real daemon with the configuration file CONFIG, or the standard one.

    Gives the process and the seconds that it took from its start to READY (sd_notify(3)).
    """
    command = [sys.executable, "-m", "ovl_linkd", "run"]
    command += ["--config", config] if config else []
    notify = PLACE / "notify.sock"
    log = PLACE / "daemon.log"
    variables = {**environment(), "NOTIFY_SOCKET": str(notify)}
    with (
        log.open("wb") as stderr,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
    ):
        listener.bind(str(notify))
        began = time.perf_counter()
        child = subprocess.Popen(command, env=variables, stderr=stderr)
        pin(child.pid, on)
        try:
            _await_ready(listener, child, log)
            took = time.perf_counter() - began
        except BaseException:
            _end(child)
            raise
        finally:
            # From here on nobody reads what the daemon tells: it must find nobody, not wait.
            notify.unlink()
    try:
        yield Process(child.pid), took
    finally:
        _end(child)


def _await_ready(listener: socket.socket, child: subprocess.Popen[bytes], log: Path) -> None:
    listener.settimeout(0.5)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if b"READY=1" in listener.recv(65_536).split(b"\n"):
                return
        except TimeoutError:
            continue
    raise RuntimeError(f"the daemon did not start:\n{log.read_text(errors='replace')[-2000:]}")


@contextmanager
def c_loop(directory: Path, target: str, on: int | None = None) -> Iterator[Process]:
    """The C loop, keeping what lies in DIRECTORY."""
    command = [str(PLACE / "loop"), str(directory), target]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        pin(child.pid, on)
        try:
            assert child.stdout
            if child.stdout.readline() != b"ready\n":
                raise RuntimeError("the C loop did not start")
            yield Process(child.pid)
        finally:
            _end(child)


def removed(on: int | None, *arguments: object, first: bool = False) -> list[tuple[int, ...]]:
    """What the remover printed, run on the processor ON: lines of nanoseconds.

    FIRST: as by put_first().
    """
    command = [str(PLACE / "remover"), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        pin(child.pid, on)
        if first:
            put_first(child.pid)
        said, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(f"the remover failed: {child.returncode}")
    return [tuple(map(int, line.split())) for line in said.splitlines()]


def _end(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
