"""The README's commands for containerd, on a node that runs Debian's own configuration."""

import pytest

from tests.system.containerd.conftest import ARCHIVE
from tests.system.containerd.images import LOOK, UNPACKED, seen
from tests.system.containerd.node import CONFIG, SHORT, UNIT, Node
from tests.system.test_readme import told

pytestmark = pytest.mark.needs("root", "systemd-nspawn", "runc")

DROP_IN = f"system/{UNIT}.d/ovl-linkd.conf"


def test_what_it_tells_makes_containerd_mount_by_the_link(node: Node) -> None:
    """All but to put the fragment into its file, which is a person's to change."""
    machine = node.machine
    machine.write(CONFIG, (UNPACKED / CONFIG[1:]).read_text())
    machine.boot()
    lines = list(told("containerd"))
    before, after = lines[:4], lines[4:]
    said = {}
    for line in before:
        code = None if line == "ovl-linkd doctor" else 0
        said[line] = machine.run("sh", "-c", line, code=code).stdout
    assert "mounts 500 layers without it" in said["ovl-linkd doctor"]
    assert f"through {SHORT} 129 stay absolute" in said["ovl-linkd doctor"]
    fragment, _, drop_in = said["ovl-linkd init --containerd"].partition("# /etc/systemd/")
    assert drop_in.partition("\n")[2] == machine.run("cat", f"/etc/systemd/{DROP_IN}").stdout

    machine.write(CONFIG, machine.path(CONFIG).read_text() + fragment)
    for line in after:
        said[line] = machine.run("sh", "-c", line).stdout

    assert f'root_path = "{SHORT}"' in said["containerd config dump"]
    node.call("image", "import", ARCHIVE)
    assert node.shell(128, LOOK) == seen(128)
    node.start(128, "c")
    assert node.lower("c")[0] == f"{SHORT}/snapshots/128/fs"
    assert "root_path is the kept link ctrd" in machine.run("ovl-linkd", "doctor", code=None).stdout
