"""What goes wrong around the service: it is said once, seen in the status, and got over."""

import pytest

from tests.system.machine import LINK, SERVICE, TARGET, Machine
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

DROP_IN = "/etc/ovl-linkd/config.yaml.d/50-more.yaml"


@pytest.mark.parametrize(
    ("broken", "mended", "error"),
    [("ro", "rw", "Read-only file system"), ("nr_inodes=1", "nr_inodes=9", "No space left")],
    ids=["read-only", "full"],
)
def test_a_place_that_takes_no_link_is_tried_until_it_does(
    running: Machine, broken: str, mended: str, error: str
) -> None:
    running.run("mkdir", "/run/x")
    running.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run/x")
    running.run("mount", "-o", f"remount,{broken}", "/run/x")
    running.write(DROP_IN, "links: {b: {path: /run/x/b, target: /srv}}\n")
    running.systemctl("reload", "ovl-linkd")
    assert running.show("StatusText") == "1 link ok, 1 failing"
    done = running.run("ovl-linkd", "status", code=1)
    assert error in done.stdout
    assert "tried again at" in done.stdout
    running.run("mount", "-o", f"remount,{mended}", "/run/x")
    wait_until(lambda: running.link("/run/x/b") == "/srv")
    wait_until(lambda: running.show("StatusText") == "2 links ok")
    assert running.journal("-u", "ovl-linkd").count(f"/run/x/b: failing: {error}") == 1


def test_without_the_journal_and_systemd_s_ear_links_are_still_kept(running: Machine) -> None:
    running.path("/run/systemd/notify").unlink()
    journal = [f"systemd-journald{kind}" for kind in (".socket", "-dev-log.socket", ".service")]
    running.systemctl("stop", *journal)
    for _ in range(3):
        running.path(LINK).unlink()
        wait_until(lambda: running.link() == TARGET)
    running.run("ovl-linkd", "status")


def test_without_inotify_watches_the_links_are_looked_at_in_turns(running: Machine) -> None:
    """In a user namespace of its own the daemon can be given one watch, and nobody else less."""
    running.run("mount", "--mkdir", "-t", "proc", "proc", "/opt/proc")
    running.write(DROP_IN, "resync-interval: 1s\n")
    running.write(
        f"/etc/systemd/system/{SERVICE}.d/watches.conf",
        "[Service]\nRestrictNamespaces=no\nCapabilityBoundingSet=CAP_SETFCAP\n"
        "ReadWritePaths=/opt/proc\nExecStart=\n"
        "ExecStart=unshare --user --map-root-user sh -c 'echo 1 >/opt/proc/sys/user/"
        "max_inotify_watches; exec ovl-linkd run'\n",
    )
    running.systemctl("daemon-reload")
    running.systemctl("restart", "ovl-linkd")
    assert running.show("StatusText") == "1 link ok, 6 directories not watched"
    running.path(LINK).unlink()
    wait_until(lambda: running.link() == TARGET)
    assert running.journal("-u", "ovl-linkd").count("can't watch /var: No space left") == 1
