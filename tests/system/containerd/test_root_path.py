"""containerd that mounts by the kept link, its root_path, and by its own long paths beside that."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.system.containerd.conftest import ARCHIVE
from tests.system.containerd.images import LOOK, seen
from tests.system.containerd.node import SHORT, STORE, Node, lower
from tests.system.machine import until

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


def test_a_cleaner_comes_by_in_the_middle_of_twenty_runs(by_link: Node) -> None:
    """The ten that run never notice, and the link is back for the next ten.

    What mounts in that very moment fails, on a busy machine above all; not so below exec with a
    guarded farm (test_exec).
    """
    machine = by_link.machine
    machine.write("/etc/cleaner.conf", f"r {SHORT}\n")
    names = [f"c{number}" for number in range(20)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda name: by_link.start(200, name), names[:10]))
        machine.run("systemd-tmpfiles", "--remove", "/etc/cleaner.conf")
        until(lambda: machine.link(SHORT) == STORE)
        list(pool.map(lambda name: by_link.start(200, name), names[10:]))
    assert f"restored {SHORT}" in machine.journal("-u", "ovl-linkd")
    for name in names:
        assert by_link.shell_in(name, LOOK) == seen(200)
