"""containerd beside the service, played by a unit that does what containerd does at its start."""

import os

import pytest

from tests.system.machine import LINK, TARGET, Machine

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

CONTAINERD = "containerd.service"
# Where nothing is at the path it makes a directory; into a dangling link it does not start.
UNIT = f"""\
[Service]
Type=notify
NotifyAccess=all
ExecStart=sh -c 'mkdir -p {LINK} && touch {LINK}/opened && systemd-notify --ready && sleep inf'
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def node(running: Machine) -> Machine:
    """A fresh node that is off, with the drop-in for containerd, which has never run."""
    running.write(f"/etc/systemd/system/{CONTAINERD}", UNIT)
    running.run("ovl-linkd", "init", "--drop-in", CONTAINERD, "--write")
    running.off()
    running.enable(CONTAINERD)
    running.path(TARGET).rmdir()
    return running


def test_a_fresh_node_gets_the_directory_that_the_link_leads_to(node: Machine) -> None:
    node.boot()
    assert node.show("ActiveState", CONTAINERD) == "active"
    assert node.link() == TARGET
    assert node.path(f"{TARGET}/opened").exists()
    assert node.path(TARGET).stat().st_mode & 0o777 == 0o700


def test_it_does_not_start_without_the_link(node: Machine) -> None:
    """It would fill a directory of its own, which is found empty by whoever mends the link."""
    node.write("/etc/tmpfiles.d/blocked.conf", f"d {LINK}\n")
    node.write("/etc/tmpfiles.d/ovl-linkd.conf", "# none\n")
    node.boot()
    assert node.show("StatusText") == "0 links ok, 1 blocked"
    assert node.show("ActiveState", CONTAINERD) == "failed"
    assert os.listdir(node.path(LINK)) == []
    node.path(LINK).rmdir()
    node.systemctl("start", CONTAINERD)
    assert node.path(f"{TARGET}/opened").exists()


def test_a_restart_of_the_service_is_none_of_its_business(node: Machine) -> None:
    """Containers would be the price of an upgrade."""
    node.boot()
    before = node.show("MainPID", CONTAINERD)
    for verb in ("restart", "reload", "stop", "start"):
        node.systemctl(verb, "ovl-linkd")
        assert node.show("MainPID", CONTAINERD) == before
