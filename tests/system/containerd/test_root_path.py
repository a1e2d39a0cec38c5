"""containerd that mounts by the kept link, its root_path, and by its own long paths beside that."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from ovl_linkd.commands import init_drop_in
from ovl_linkd.commands.init import GUARDED
from ovl_linkd.links.link import Link
from tests.system.containerd.conftest import ARCHIVE
from tests.system.containerd.images import LOOK, seen
from tests.system.containerd.node import SHORT, STORE, UNIT, Node, lower
from tests.system.machine import Machine
from tests.waiting import wait_until

# As `ovl-linkd init --containerd` tells.
GUARD = f"links: {{ctrd: {{path: {GUARDED}, guard: append-only}}}}\n"
# In /run/tried, what each of them complains of. By the time of change: a look makes nothing young.
CLEANERS = {
    "rm": f"rm -f {GUARDED}",
    "rm -r": f"rm -rf {os.path.dirname(GUARDED)}",
    "tmpfiles --clean": "systemd-tmpfiles --clean /etc/aged.conf",
    "tmpfiles --remove": "systemd-tmpfiles --remove /etc/removed.conf",
    "tmpreaper": f"tmpreaper --symlinks --mtime 1d {os.path.dirname(GUARDED)}",
}
CLEANING = "\n".join(
    [
        f"touch --no-dereference --date=@0 {GUARDED}",
        "while :; do",
        *(f"{command} 2>>'/run/tried/{name}'" for name, command in CLEANERS.items()),
        "done",
    ]
)

pytestmark = pytest.mark.needs("root", "systemd-nspawn", "runc")


def test_by_its_long_paths_it_turns_to_relative_ones(running: Node) -> None:
    """They mean nothing to whoever reads mountinfo: gVisor and sysbox are two that stumble."""
    for layers in (128, 200):
        assert running.shell(layers, LOOK) == seen(layers)
    running.start(128, "c")
    assert running.lower("c") == [f"{number}/fs" for number in range(128, 0, -1)]


def test_by_the_link_they_stay_absolute(by_link: Node) -> None:
    """Up to a page less 512 bytes: what containerd takes for too long."""
    for layers in (128, 133, 134, 200):
        assert by_link.shell(layers, LOOK) == seen(layers)
        by_link.start(layers, f"c{layers}")
        first = f"{SHORT}/snapshots/" if layers <= 133 else ""
        wanted = [f"{first}{number}/fs" for number in range(layers, 0, -1)]
        assert by_link.lower(f"c{layers}") == wanted
        assert lower(by_link.call("snapshots", "mounts", "/x", f"c{layers}")) == [
            f"{SHORT}/snapshots/{number}/fs" for number in range(layers, 0, -1)
        ]
        first = f"{STORE}/snapshots/" if layers <= 133 else ""
        wanted = [f"{first}{number}/fs" for number in range(layers, 0, -1)]
        assert by_link.lower(f"c{layers}", expand=True) == wanted
    said = by_link.machine.run("ovl-linkd", "doctor", code=None).stdout
    assert "rootfs" not in said, "none of them is taken for one that was cut"


def test_the_room_is_as_doctor_tells(running: Node) -> None:
    """With numbers of three digits, as those are that follow on the 200 that were used up."""
    said = running.machine.run("ovl-linkd", "doctor", code=None).stdout
    assert "but past 44 by relative paths" in said
    assert f"through {SHORT} 129 stay absolute" in said
    running.forget_images()
    running.call("image", "import", ARCHIVE)
    for root_path, fits in ((None, 44), (SHORT, 129)):
        running.restart(root_path)
        for layers in (fits, fits + 1):
            running.start(layers, "c")
            assert running.lower("c")[0].startswith("/") == (layers == fits)
            running.stop("c")


def test_what_is_there_goes_on_after_the_switch_and_back(running: Node) -> None:
    """Images, containers that run, and containers that were made by the other name."""
    running.start(200, "old")
    running.restart(SHORT)
    assert running.shell_in("old", LOOK) == seen(200)
    assert running.shell(200, LOOK) == seen(200)
    running.start(128, "new")
    running.restart(None)
    for container, layers in {"old": 200, "new": 128}.items():
        assert running.shell_in(container, LOOK) == seen(layers)
        # Its snapshot is known by its number: the name by which it was mounted is forgotten.
        running.call("task", "rm", "--force", container)
        running.call("task", "start", "--detach", container)
        assert running.shell_in(container, LOOK) == seen(layers)
    assert running.shell(128, LOOK) == seen(128)


def test_an_image_is_pulled_by_the_link(by_link: Node) -> None:
    """Each layer is unpacked on top of all those below it."""
    by_link.push_and_pull(128, 200)
    for layers in (128, 200):
        assert by_link.shell(layers, LOOK) == seen(layers)
    assert by_link.machine.link(SHORT) == STORE


def test_a_cleaner_comes_by_between_twenty_runs(by_link: Node) -> None:
    """The ten that run never notice, and the link is back for the next ten, which wait for it.

    What mounts in the moment between fails, on a busy machine above all: only a guard keeps the
    link there.
    """
    machine = by_link.machine
    machine.write("/etc/cleaner.conf", f"r {SHORT}\n")
    names = [f"c{number}" for number in range(20)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda name: by_link.start(200, name), names[:10]))
        machine.run("systemd-tmpfiles", "--remove", "/etc/cleaner.conf")
        wait_until(lambda: machine.link(SHORT) == STORE)
        list(pool.map(lambda name: by_link.start(200, name), names[10:]))
    assert f"restored {SHORT}" in machine.journal("-u", "ovl-linkd")
    for name in names:
        assert by_link.shell_in(name, LOOK) == seen(200)


@pytest.mark.needs("tmpreaper")
def test_cleaners_that_never_rest_fail_none_of_twenty_runs_by_a_guarded_link(node: Node) -> None:
    """There is no moment in which the link isn't there, from before containerd starts."""
    machine = node.machine
    machine.write("/etc/ovl-linkd/config.yaml.d/50-guard.yaml", GUARD)
    machine.write("/etc/aged.conf", f"d {os.path.dirname(GUARDED)} - - - m:10d\n")
    machine.write("/etc/removed.conf", f"r {GUARDED}\n")
    machine.write("/etc/cleaners.sh", CLEANING)
    machine.enable("ovl-linkd-guard")
    node.configure(GUARDED)
    # A fresh node: it is this drop-in that makes the store before containerd starts.
    drop_in = init_drop_in.for_user(UNIT, [Link("ctrd", GUARDED, STORE)])
    init_drop_in.write(drop_in, str(machine.root))
    machine.boot()
    inode = machine.path(GUARDED).lstat().st_ino
    machine.path("/run/tried").mkdir()
    machine.run("systemd-run", "--quiet", "--unit=cleaners", "sh", "/etc/cleaners.sh")
    node.call("image", "import", ARCHIVE)
    before = wait_until(lambda: them if all((them := refusals(machine)).values()) else None)
    names = [f"c{number}" for number in range(20)]
    with ThreadPoolExecutor(10) as pool:
        said = list(pool.map(lambda name: node.shell(200, LOOK, name), names))
    assert said == [seen(200)] * 20
    node.start(128, "c")
    assert node.lower("c")[0] == f"{GUARDED}/snapshots/128/fs"
    after = refusals(machine)
    for cleaner in CLEANERS:
        assert before[cleaner] < after[cleaner], cleaner
    machine.systemctl("stop", "cleaners")
    assert machine.path(GUARDED).lstat().st_ino == inode, "it was never made anew"


def refusals(machine: Machine) -> dict[str, int]:
    """How often each of CLEANERS was not permitted to do its work."""
    files = {name: machine.path(f"/run/tried/{name}") for name in CLEANERS}
    said = {name: file.read_text() if file.exists() else "" for name, file in files.items()}
    return {name: text.count("Operation not permitted") for name, text in said.items()}
