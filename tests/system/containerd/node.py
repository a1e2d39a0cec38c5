"""A node that runs containerd: Debian's own, as a service of a booted machine."""

import json
from collections.abc import Sequence

from tests.system.containerd import images
from tests.system.machine import Machine
from tests.waiting import wait_until

UNIT = "containerd.service"
ROOT = "/var/lib/containerd"
STORE = f"{ROOT}/io.containerd.snapshotter.v1.overlayfs"
SHORT = "/run/ctrd"  # a kept link to STORE
LAYERS_SHORT = "/run/ctrdl"  # and one to the snapshots in it
CONFIG = "/etc/containerd/config.toml"
_SAID = "/run/said"  # inside and in containers
ROOTFS = "/run/containerd/io.containerd.runtime.v2.task/{}/{}/rootfs"

_REGISTRY = """\
version: 0.1
storage: {filesystem: {rootdirectory: /run/registry}}
http: {addr: 'localhost:5000'}
log: {level: error}
"""
# Of the machine's, only the overlay snapshotter is of interest here.
_PLUGINS = json.dumps(
    [f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")]
    + ["io.containerd.grpc.v1.cri"]
)


class Node:
    """containerd on MACHINE, and the images that were made for it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        #: how its client is called
        self.ctr: tuple[str, ...] = ("ctr",)
        #: containerd's, of the containers that are looked into
        self.namespace = "default"

    def configure(self, root_path: str | None = None, more: str = "") -> None:
        """Write containerd's configuration, which it reads when it starts."""
        text = f"version = 2\ndisabled_plugins = {_PLUGINS}\n{more}"
        if root_path:
            plugin = "io.containerd.snapshotter.v1.overlayfs"
            text += f'[plugins."{plugin}"]\n  root_path = "{root_path}"\n'
        self.machine.write(CONFIG, text)

    def restart(self, root_path: str | None = None) -> None:
        """Start containerd anew with ROOT_PATH."""
        self.configure(root_path)
        self.machine.systemctl("restart", UNIT)

    def call(self, *words: str) -> str:
        """What `ctr WORDS` prints."""
        return self.machine.run(*self.ctr, *words).stdout

    def shell(self, layers: int, script: str, container: str = "once") -> str:
        """What SCRIPT prints in a new CONTAINER of the image of so many LAYERS."""
        self._run(layers, container, ["--rm"], "sh", "-c", f"exec >{_SAID}/{container}\n{script}")
        return self._said(container)

    def start(self, layers: int, container: str, *options: str) -> None:
        """Start a CONTAINER that stays, of the image of so many LAYERS, with OPTIONS."""
        self._run(layers, container, ["--detach", *options], "sleep", "inf")

    def _run(self, layers: int, container: str, options: Sequence[str], *command: str) -> None:
        self.machine.path(_SAID).mkdir(exist_ok=True)
        said = f"type=bind,src={_SAID},dst={_SAID},options=bind"
        # Where no cgroup has a cpu controller runc can't give it the usual 1,024 shares.
        words = ("run", "--cpu-shares", "0", "--mount", said, *options)
        self.call(*words, images.name(layers), container, *command)

    def shell_in(self, container: str, script: str) -> str:
        """What SCRIPT prints in a CONTAINER that runs."""
        command = ("sh", "-c", f"exec >{_SAID}/{container}\n{script}")
        self.call("task", "exec", "--exec-id", "x", container, *command)
        return self._said(container)

    def _said(self, container: str) -> str:
        """What CONTAINER has printed: not by way of ctr, which at times loses the end of it."""
        file = self.machine.path(f"{_SAID}/{container}")
        text = file.read_text()
        file.unlink()
        return text

    def stop(self, container: str) -> None:
        """End CONTAINER and remove it."""
        self.call("task", "rm", "--force", container)
        self.call("container", "rm", container)

    def push_and_pull(self, *layers: int) -> None:
        """Have the images of so many LAYERS from a registry of the machine's own, and no others."""
        self.machine.write("/etc/registry.yml", _REGISTRY)
        self.machine.run("systemd-run", "--quiet", "docker-registry", "serve", "/etc/registry.yml")
        there = ("bash", "-c", "echo >/dev/tcp/localhost/5000")
        wait_until(lambda: self.machine.run(*there, code=None).returncode == 0)
        for name in map(images.name, layers):
            self.call("image", "push", "--plain-http", name)
        self.forget_images()
        for name in map(images.name, layers):
            self.call("image", "pull", "--plain-http", name)

    def forget_images(self) -> None:
        """Remove all images, and wait until their content and their snapshots are gone."""
        self.call("image", "rm", "--sync", *self.call("image", "ls", "--quiet").split())
        for what in ("content", "snapshots"):
            assert len(self.call(what, "ls").splitlines()) == 1, what

    def lower(self, container: str, *, expand: bool = False) -> list[str]:
        """The lower layers of CONTAINER's root as mountinfo names them, the uppermost first.

        EXPAND: as it is told by `ovl-linkd rewrite`.
        """
        read = "ovl-linkd rewrite --as mountinfo --expand" if expand else "cat"
        # 1 where paths are relative, which can't be told of.
        said = self.machine.run("sh", "-c", f"{read} </proc/1/mountinfo", code=None).stdout
        point = ROOTFS.format(self.namespace, container)
        (line,) = [line for line in said.splitlines() if line.split()[4] == point]
        return lower(line.split()[-1])


def lower(options: str) -> list[str]:
    """The lower layers in OPTIONS without escapes."""
    (value,) = [each for each in options.split(",") if each.startswith("lowerdir=")]
    return value.strip().removeprefix("lowerdir=").split(":")
