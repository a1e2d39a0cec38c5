"""Nodes to boot, and images that are made once."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.containerd import images, older
from tests.system.containerd.images import UNPACKED
from tests.system.containerd.node import LAYERS_SHORT, ROOT, SHORT, STORE, UNIT, Node
from tests.system.machine import TOP, with_a_disk

ARCHIVE = "/run/images.tar"  # inside
LAYERS = (44, 45, 128, 129, 130, 133, 134, 200)
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "docker-registry")
# As `ovl-linkd init` writes them.
LINKS = f"""\
links:
  ctrd: {{path: {SHORT}, target: {STORE}}}
  ctrdl: {{path: {LAYERS_SHORT}, target: {STORE}/snapshots}}
"""
UNIT_FILE = f"usr/lib/systemd/system/{UNIT}"


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images with so many LAYERS."""
    file = tmp_path_factory.mktemp("images") / "images.tar"
    images.write(file, *LAYERS)
    return file


@pytest.fixture(scope="session")
def release() -> Path:
    """The unpacked containerd that nodes have; `make soak` names those of other Debians."""
    return TOP / (os.environ.get("CONTAINERD") or UNPACKED)


@pytest.fixture
def node(installed: Path, scratch: Path, archive: Path, release: Path) -> Iterator[Node]:
    """A fresh node that is off: containerd's disk is empty, and nobody has told it of the link."""
    made = with_a_disk(installed, scratch, ROOT, f"--bind-ro={archive}:{ARCHIVE}")
    for name in PROGRAMS:
        program = release / "usr/bin" / name
        made.have(program if program.exists() else UNPACKED / "usr/bin" / name, "/usr/bin")
    made.write(f"/usr/lib/systemd/system/{UNIT}", (release / UNIT_FILE).read_text())
    made.write("/etc/ovl-linkd/config.yaml", LINKS)
    made.enable("ovl-linkd", UNIT)
    node = Node(made)
    node.configure()
    yield node
    made.scrap()


@pytest.fixture
def running(node: Node) -> Node:
    """A node that is up and has the images; containerd mounts by its long paths."""
    node.machine.boot()
    node.call("image", "import", ARCHIVE)
    return node


@pytest.fixture
def by_link(running: Node) -> Node:
    """The same after the switch: containerd mounts by the kept link."""
    running.restart(SHORT)
    return running


@pytest.fixture(scope="session")
def older_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a containerd that knows no relative paths."""
    directory = tmp_path_factory.mktemp("older")
    older.make(directory)
    return directory


@pytest.fixture
def older_node(node: Node, older_programs: Path) -> Node:
    """A fresh node with such a containerd, off."""
    for program in older.PROGRAMS:
        there = node.machine.path(f"/usr/bin/{program}")
        there.unlink()
        shutil.copy(older_programs / program, there)
    return node
