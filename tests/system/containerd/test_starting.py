"""How containerd starts, or doesn't, on a link that it is to mount by."""

import os

import pytest

from ovl_linkd.commands import init_drop_in
from ovl_linkd.links.link import Link
from tests.system.containerd.conftest import ARCHIVE
from tests.system.containerd.images import LOOK, seen
from tests.system.containerd.node import SHORT, STORE, UNIT, Node

pytestmark = pytest.mark.needs("root", "systemd-nspawn", "runc")


@pytest.fixture
def waiting(node: Node) -> Node:
    """A fresh node that is off, with root_path and the drop-in that `init` prints for it."""
    node.configure(SHORT)
    drop_in = init_drop_in.for_user(UNIT, [Link("ctrd", SHORT, STORE)])
    init_drop_in.write(drop_in, str(node.machine.root))
    # Debian's unit is tried again every five seconds, and the boot waits for that.
    node.machine.write(f"/etc/systemd/system/{UNIT}.d/once.conf", "[Service]\nRestart=no\n")
    return node


def test_a_fresh_node_gets_the_store_that_the_link_leads_to(waiting: Node) -> None:
    """Into a link that dangles containerd starts without its overlay snapshotter."""
    machine = waiting.machine
    machine.boot()
    assert machine.show("ActiveState", UNIT) == "active"
    assert machine.link(SHORT) == STORE
    assert machine.path(STORE).stat().st_mode & 0o777 == 0o700
    waiting.call("image", "import", ARCHIVE)
    assert waiting.shell(200, LOOK) == seen(200)
    assert machine.path(f"{STORE}/snapshots").is_dir()


def test_it_does_not_start_without_the_link(waiting: Node) -> None:
    """It would fill a directory of its own, which is found empty by whoever mends the link."""
    machine = waiting.machine
    machine.write("/etc/tmpfiles.d/blocked.conf", f"d {SHORT}\n")
    machine.write("/etc/tmpfiles.d/ovl-linkd.conf", "# none\n")
    machine.boot()
    assert machine.show("StatusText") == "0 links ok, 1 blocked, 1 dangling"
    assert machine.show("ActiveState", UNIT) == "failed"
    assert f"{SHORT} does not lead to {STORE}: ovl-linkd status" in machine.journal("-u", UNIT)
    assert os.listdir(machine.path(SHORT)) == []
    machine.path(SHORT).rmdir()
    machine.systemctl("start", UNIT)
    assert machine.path(f"{STORE}/snapshots").is_dir()


def test_a_restart_of_the_service_is_none_of_its_business(waiting: Node) -> None:
    """Containers would be the price of an upgrade."""
    machine = waiting.machine
    machine.boot()
    before = machine.show("MainPID", UNIT)
    for verb in ("restart", "reload", "stop", "start"):
        machine.systemctl(verb, "ovl-linkd")
        assert machine.show("MainPID", UNIT) == before
