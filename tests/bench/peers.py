"""What else people keep a link with, all in one booted systemd, one link removed in turn from each.

The peers are Debian's packages, which `make setup-bench` unpacks below build/peers and which lie
over the machine's root; the daemon is that of this checkout.
"""

import gzip
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench import world
from tests.bench.figures import Figure, Sample, rounds, sample
from tests.bench.restoring import LOOP, microseconds
from tests.system.machine import CHECKOUT, TOP, Machine

ROUNDS = 150
# Long enough for systemd to have put a finished service away and to watch again: what is removed
# before that stays gone. With it, each link has rested for some 0.2 s.
PAUSE = 40_000  # microseconds
PEERS = TOP / "build" / "peers"
OURS = "ovl-linkd"
_AT = "/run/bench"  # the links' directories are below it, each peer's own
_TARGET = "/var/lib/bench/layers"
_LN = "/bin/ln -s"


class Peer(NamedTuple):
    """Something that keeps ``AT/NAME/link``. ``command`` is what runs, or is configured."""

    what: str
    name: str
    command: str
    package: str = ""


def _peers() -> list[Peer]:
    daemon = f"{CHECKOUT}/{Path(sys.executable).relative_to(TOP)} -m ovl_linkd run"
    loop = (
        f"inotifywait -m -q -e delete -e moved_from --format %f {_AT}/inotifywait | "
        f'while read -r name; do {_LN} {_TARGET} "{_AT}/inotifywait/$name"; done'
    )
    inotifywait = f"sh -c {shlex.quote(loop)}"
    watchdog = f"/usr/bin/python3 {CHECKOUT}/tests/bench/watchdog_loop.py {_AT}/watchdog {_TARGET}"
    incron = f"{_AT}/incron IN_DELETE,IN_MOVED_FROM {_LN} {_TARGET} $@/$#"
    return [
        Peer(LOOP, "c", f"/opt/bench/loop {_AT}/c {_TARGET}"),
        Peer(OURS, "ours", f"{daemon} --config {_AT}/ours.yaml"),
        Peer("Python watchdog", "watchdog", watchdog, "python3-watchdog"),
        Peer("inotifywait -m | while read", "inotifywait", inotifywait, "inotify-tools"),
        Peer("incron, ln", "incron", incron, "incron"),
        Peer("systemd .path, ln", "path-ln", f"{_LN} {_TARGET} {_AT}/path-ln/link"),
        Peer(
            "systemd .path, systemd-tmpfiles",
            *("path-tmpfiles", f"systemd-tmpfiles --create {_AT}/path-tmpfiles.conf"),
        ),
    ]


def measure(effort: float) -> Iterator[Figure]:
    """Each peer beside the C loop of the same rounds; and what the defaults of .path come to."""
    peers = [each for each in _peers() if not each.package or (PEERS / each.package).exists()]
    with _machine() as machine:
        for peer in peers:
            _start(machine, peer)
        remover = (world.processors() or (None, None))[1]
        places = [machine.path(f"{_AT}/{peer.name}") for peer in peers]
        words = ("one", rounds(ROUNDS, effort), PAUSE, *places)
        columns = microseconds(world.removed(remover, *words))
        sizes = {peer.name: _memory(machine, peer) for peer in peers}
        survived = _until_it_gives_up(machine, 10 * effort)
    spent = {peer.name: sample(column) for peer, column in zip(peers, columns, strict=True)}
    for peer in peers[1:] + peers[:1]:
        yield _figure(peer, spent, peer.what)
    for peer in peers:
        if size := sizes[peer.name]:
            what = f"PSS of {peer.what}"
            yield Figure(what, sample(size), "MiB", command="/proc/PID/smaps_rollup of all of it")
    note = "then the link stays gone, until somebody resets the unit"
    what = "systemd .path at its default limits: removals survived in 10 s"
    yield Figure(what, sample(survived), "", note=note, command="unlink(2) every 100 ms")


def _figure(peer: Peer, spent: dict[str, Sample], what: str) -> Figure:
    loop = None if peer.what == LOOP else spent["c"]
    note = " ".join(filter(None, (peer.package, _version(peer.package))))
    beside = LOOP if loop else ""
    command = peer.command
    return Figure(what, spent[peer.name], "µs", beside, loop, note=note, command=command)


def _version(package: str) -> str:
    """As the changelog says that every Debian package brings along."""
    log = PEERS / package / "usr/share/doc" / package / "changelog.Debian.gz"
    if not package or not log.exists():
        return ""
    with gzip.open(log, "rt") as lines:
        return next(lines).partition("(")[2].partition(")")[0]


@contextmanager
def _machine() -> Iterator[Machine]:
    """Booted, with what the peers are and need; all of it on one processor."""
    place = world.fresh("machine")
    installed = place / "installed"
    for each in PEERS.glob("*/usr"):
        shutil.copytree(each, installed / "usr", symlinks=True, dirs_exist_ok=True)
    (installed / "opt/bench").mkdir(parents=True)
    shutil.copy(world.PLACE / "loop", installed / "opt/bench")
    machine = Machine(installed, place)
    try:
        machine.boot()
        if cpus := world.processors():
            world.pin(machine.pid, cpus[0])
        machine.run("mkdir", "-p", _TARGET, "/etc/incron.d", "/var/spool/incron")
        yield machine
    finally:
        machine.scrap()


def _start(machine: Machine, peer: Peer) -> None:
    """Have PEER keep its link, and wait until it does."""
    machine.run("mkdir", "-p", f"{_AT}/{peer.name}")
    machine.run("ln", "-s", _TARGET, f"{_AT}/{peer.name}/link")
    if peer.name.startswith("path-"):
        machine.write(f"{_AT}/{peer.name}.conf", f"L {_AT}/{peer.name}/link - - - - {_TARGET}\n")
        limits = "StartLimitIntervalSec=0\n"
        _start_path(machine, peer.name, f"{_AT}/{peer.name}", peer.command, limits)
        return
    command, kind = peer.command, "exec"
    if peer.name == "incron":
        machine.write("/etc/incron.d/bench", f"{peer.command}\n")
        command = "/usr/sbin/incrond --foreground"
    if peer.what == OURS:
        kind = "notify"
        link = f"links:\n  ours:\n    path: {_AT}/ours/link\n    target: {_TARGET}\n"
        machine.write(f"{_AT}/ours.yaml", link)
    # By way of a file: systemd-run would put its own idea in place of the shell's variables.
    machine.write(f"{_AT}/{peer.name}.sh", f"exec {command}\n")
    words = ("--property", f"Type={kind}", "--setenv", f"PYTHONPATH={CHECKOUT}/daemon")
    unit = ("systemd-run", "--quiet", "--unit", f"peer-{peer.name}", *words)
    machine.run(*unit, "sh", f"{_AT}/{peer.name}.sh")
    _await_kept(machine, f"{_AT}/{peer.name}/link")


def _start_path(machine: Machine, name: str, directory: str, command: str, limits: str) -> None:
    """Start a .path unit for DIRECTORY whose service runs COMMAND."""
    path = f"[Path]\nPathChanged={directory}\n"
    if limits:
        path += "TriggerLimitIntervalSec=0\n"
    machine.write(f"/run/systemd/system/{name}.path", path)
    service = f"[Unit]\n{limits}[Service]\nType=oneshot\nExecStart={command}\n"
    machine.write(f"/run/systemd/system/{name}.service", service)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", f"{name}.path")


def _await_kept(machine: Machine, link: str) -> None:
    """Remove LINK until it comes back: a peer doesn't tell when its watch stands."""
    deadline = time.monotonic() + world.PATIENCE
    while time.monotonic() < deadline:
        machine.path(link).unlink(missing_ok=True)
        for _ in range(20):
            time.sleep(0.05)
            if machine.link(link):
                return
        machine.path(link).symlink_to(_TARGET)
    raise RuntimeError(f"nobody keeps {link}")


def _memory(machine: Machine, peer: Peer) -> float:
    """The proportional size of all processes of PEER, MiB; 0 where systemd itself is the peer."""
    group = machine.show("ControlGroup", f"peer-{peer.name}.service")
    if not group:
        return 0.0
    pids = machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").stdout.split()
    total = 0.0
    for pid in pids:
        rollup = machine.path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(rollup.partition("\nPss:")[2].split()[0]) / 1024
    return total


def _until_it_gives_up(machine: Machine, seconds: float) -> int:
    """How many removals a .path unit without settings of its own makes good in SECONDS."""
    directory = f"{_AT}/default"
    machine.run("mkdir", directory)
    command = f"{_LN} {_TARGET} {directory}/link"
    machine.run("sh", "-c", command)
    _start_path(machine, "default", directory, command, "")
    survived = 0
    began = time.monotonic()
    link = machine.path(f"{directory}/link")
    while time.monotonic() < began + seconds:
        os.unlink(link)
        deadline = time.monotonic() + 2
        while not os.path.lexists(link) and time.monotonic() < deadline:
            time.sleep(0.01)
        if not os.path.lexists(link):
            break
        survived += 1
        time.sleep(0.1)
    return survived
