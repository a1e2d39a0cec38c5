"""The README's commands for containerd, on a node that runs Debian's own configuration."""

from pathlib import Path

import pytest

from tests.manuals import told
from tests.system.containerd.conftest import ARCHIVE
from tests.system.containerd.images import LOOK, seen
from tests.system.containerd.node import CONFIG, SHORT, UNIT, Node

pytestmark = pytest.mark.needs("root", "systemd-nspawn", "runc")


def test_what_it_tells_makes_containerd_mount_by_the_link(node: Node, release: Path) -> None:
    """All but to put the fragment into its file, which is a person's to change."""
    machine = node.machine
    machine.write(CONFIG, (release / CONFIG[1:]).read_text())
    machine.boot()
    assert "mounts 500 layers without it" in machine.run("ovl-linkd", "doctor", code=None).stdout
    lines = list(told("containerd 1.5 and later"))
    said = [machine.run("sh", "-c", line).stdout for line in lines[:2]]
    fragment, _, written = said[0].rpartition("\n\n")
    assert written.startswith(f"/etc/systemd/system/{UNIT}.d/ovl-linkd.conf written")

    machine.write(CONFIG, machine.path(CONFIG).read_text() + fragment)
    said += [machine.run("sh", "-c", line).stdout for line in lines[2:]]

    assert f'root_path = "{SHORT}"' in said[-1].replace("'", '"')  # containerd 2 quotes so
    node.call("image", "import", ARCHIVE)
    assert node.shell(128, LOOK) == seen(128)
    node.start(128, "c")
    assert node.lower("c")[0] == f"{SHORT}/snapshots/128/fs"
    assert "root_path is the kept link ctrd" in machine.run("ovl-linkd", "doctor", code=None).stdout
