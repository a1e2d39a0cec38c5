"""The README's commands for containerd, on a node that runs Debian's own configuration."""

import re
from pathlib import Path

import pytest

from ovl_linkd.commands.init import GUARDED
from tests.manuals import told
from tests.system.containerd.conftest import ARCHIVE
from tests.system.containerd.images import LOOK, seen
from tests.system.containerd.node import CONFIG, UNIT, Node

README = Path(__file__).parents[3] / "README.md"

pytestmark = pytest.mark.needs("root", "systemd-nspawn", "runc")


def test_what_it_tells_makes_containerd_mount_by_the_link(node: Node, release: Path) -> None:
    """All but to put the fragment into its file, which is a person's to change."""
    machine = node.machine
    machine.write(CONFIG, (release / CONFIG[1:]).read_text())
    machine.boot()
    assert "mounts 500 layers without it" in machine.run("ovl-linkd", "doctor", code=None).stdout
    (guard,) = re.findall("(?s)```yaml\n(links:\n  ctrd:.*?)```", README.read_text())
    machine.write("/etc/ovl-linkd/config.yaml.d/guard.yaml", guard)
    lines = list(told("containerd 1.5 and later"))
    said = [machine.run("sh", "-c", line).stdout for line in lines[:4]]
    fragment, _, written = said[2].rpartition("\n\n")
    assert written.startswith(f"/etc/systemd/system/{UNIT}.d/ovl-linkd.conf written")

    machine.write(CONFIG, machine.path(CONFIG).read_text() + fragment)
    said += [machine.run("sh", "-c", line).stdout for line in lines[4:]]

    assert f'root_path = "{GUARDED}"' in said[-1].replace("'", '"')  # containerd 2 quotes so
    machine.run("rm", "-f", GUARDED, code=1)
    node.call("image", "import", ARCHIVE)
    assert node.shell(128, LOOK) == seen(128)
    node.start(128, "c")
    assert node.lower("c")[0] == f"{GUARDED}/snapshots/128/fs"
    assert "root_path is the kept link ctrd" in machine.run("ovl-linkd", "doctor", code=None).stdout
