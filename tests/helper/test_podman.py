"""Debian's Podman with mount.overlay as its `mount_program`: an image of 100 layers, mounted."""

import os
import re
import shutil
from pathlib import Path

import pytest

from ovl_linkd.overlay import mounting
from tests.helper.world import FRONT
from tests.kernel.world import features
from tests.system.containerd import images
from tests.userland import TOP, Userland, put_podman

pytestmark = pytest.mark.needs("root")

LAYERS = 100  # some 9,600 bytes of options
PROGRAM = "/usr/local/lib/ovl-linkd/mount.overlay"


@pytest.fixture
def podman(library: Path, scratch: Path) -> Userland:
    """This machine with Podman, and the README's configuration of it."""
    place = scratch / "system"
    place.mkdir()
    system = Userland(Path("/"), place)
    put_podman(system.root)
    for fresh in ("/run", "/var/lib/containers", "/var/tmp"):
        system.path(fresh).mkdir(parents=True, exist_ok=True)
        mounting.mount("tmpfs", os.fspath(system.path(fresh)), "tmpfs")
    program = system.path(PROGRAM)
    shutil.rmtree(program.parent, ignore_errors=True)
    shutil.copytree(library, program.parent)
    program.write_text(
        re.sub(r"(?m)^library=.*", f"library={program.parent}", FRONT.read_text()).replace(
            str(system.root), ""
        )
    )
    program.chmod(0o755)
    (configuration,) = re.findall(
        r"(?ms)^```toml\n(\[storage\]\n.*?)^```", (TOP / "README.md").read_text()
    )
    system.path("/etc/containers").mkdir(exist_ok=True)
    system.path("/etc/containers/storage.conf").write_text(configuration)
    return system


def test_an_image_is_loaded_and_mounted_by_it(podman: Userland) -> None:
    """Each layer that is unpacked is a mount as well, of all that are below it."""
    images.write(podman.path("/run/images.tar"), LAYERS)
    podman.run("podman", "load", "--quiet", "--input", "/run/images.tar", timeout=300)
    # Podman 5 complains of cgroups, which are this machine's.
    quiet = {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    said = podman.run("podman", "info", "--format", "{{.Store.GraphOptions}}", environment=quiet)
    assert f"Executable:{PROGRAM}" in said.stdout
    assert "level=warning" not in said.stderr

    mounted = podman.run("podman", "image", "mount", images.name(LAYERS)).stdout.strip()
    merged = podman.path(mounted)
    assert sum(1 for _ in (merged / "tmp").iterdir()) == LAYERS - 1
    pairs = sorted((merged / "pair").iterdir())
    assert [int(pair.read_text()) for pair in pairs] == [*range(2, LAYERS), LAYERS - 1]
    (line,) = (
        each
        for each in Path("/proc/self/mountinfo").read_text().splitlines()
        if f" {merged} " in each
    )
    assert line.count("lowerdir+=") == (LAYERS if features().one_by_one else 0)
    podman.run("podman", "image", "unmount", images.name(LAYERS))
