"""The configuration for this machine: its stores of layers, and a link or two for each."""

import json
import os
import re
from typing import Any, NamedTuple

from ovl_linkd.errors import UserError
from ovl_linkd.machine import trusted
from ovl_linkd.machine.containerd import PLUGIN, Containerd
from ovl_linkd.text import printable

_RANCHER = {
    "k3s": "/var/lib/rancher/k3s/agent/containerd",
    "rke2": "/var/lib/rancher/rke2/agent/containerd",
}
_PLAIN = re.compile(r"/[\w/.@+-]*", re.ASCII)

_HEAD = """\
# What ovl-linkd keeps on this machine; written by `ovl-linkd init`, yours to edit.
# `ovl-linkd check` says what is wrong with it, `ovl-linkd reload` makes the daemon read it.

# The links to keep, each under a name by which commands know it. The path counts once a layer:
# keep it short. The target need not exist yet.
links:
"""
_TAIL = """\

# Look at every link this often even if no event came; at least 1s.
#resync-interval: 60s

# Where the daemon listens. At most 103 bytes.
#control-socket: /run/ovl-linkd/control.sock

# Counters for node_exporter, none without this: link the file into its textfile directory, or name
# a path there if only root may write it.
metrics-file: /run/ovl-linkd/metrics.prom
"""


class Entry(NamedTuple):
    """One link of the configuration: ``why`` is the comment above it, in lines."""

    name: str
    path: str
    target: str
    why: tuple[str, ...]


def text(containerd: Containerd, root: str = "") -> str:
    """The configuration for the stores below ROOT. Raises UserError for a path YAML can't hold."""
    entries = [*_containerd(containerd), *_rancher(root), *_docker(root), *_podman(root)]
    return _HEAD + "\n".join(map(_entry, entries)) + _TAIL


def snapshotter_root(containerd: Containerd) -> str:
    """The directory in which containerd's overlay snapshotter really is.

    root_path may be a short link already: then it is what that leads to, if it leads anywhere.
    """
    path = containerd.root_path
    if path is None:
        return containerd.snapshotter
    if os.path.islink(path):
        actual = os.path.realpath(path)
        if os.path.basename(actual) == "snapshots":
            actual = os.path.dirname(actual)
        return actual
    return path if os.path.isdir(path) else containerd.snapshotter


def _containerd(containerd: Containerd) -> list[Entry]:
    root = os.path.normpath(snapshotter_root(containerd))
    return [
        Entry(
            "ctrd",
            "/run/ctrd",
            root,
            (
                f"containerd, by {containerd.source}: the root of its overlay snapshotter.",
                "For containerd itself, from 1.5 on: `ovl-linkd init --containerd` prints what",
                "goes into its configuration, and the drop-in that has it wait for the link.",
            ),
        ),
        Entry(
            "ctrdl",
            "/run/ctrdl",
            f"{root}/snapshots",
            ("The layers in it: for rewriting options, for programs that are given a layer.",),
        ),
    ]


def _rancher(root: str) -> list[Entry]:
    return [
        Entry(
            f"{name}l",
            f"/run/{name}l",
            f"{state}/{PLUGIN}/snapshots",
            (f"The layers of {name}'s containerd.",),
        )
        for name, state in _RANCHER.items()
        if os.path.isdir(root + state)
    ]


def _docker(root: str) -> list[Entry]:
    file = "/etc/docker/daemon.json"
    state = "/var/lib/docker"
    try:
        state = _absolute(json.loads(trusted.read(root + file)), "data-root") or state
    except (OSError, ValueError, RecursionError):
        pass  # without a file, or with one that docker won't read either, the default holds
    layers = f"{state.rstrip('/')}/overlay2"
    if not os.path.isdir(root + layers):
        return []
    why = ("Docker's layers, for other programs that mount them: Docker itself ends at 125.",)
    return [Entry("dockl", "/run/dockl", layers, why)]


def _podman(root: str) -> list[Entry]:
    import tomllib

    state = "/var/lib/containers/storage"
    for file in ("/usr/share/containers/storage.conf", "/etc/containers/storage.conf"):
        try:
            table = tomllib.loads(trusted.read(root + file).decode()).get("storage")
            state = _absolute(table, "graphroot") or state
        except (OSError, ValueError, RecursionError):
            continue
    layers = f"{state.rstrip('/')}/overlay"
    if not os.path.isdir(root + layers):
        return []
    why = ("Podman's layers, for other programs that mount them: Podman itself ends at 128.",)
    return [Entry("podl", "/run/podl", layers, why)]


def _absolute(table: Any, key: str) -> str | None:
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, str) and value.startswith("/") else None


def _entry(entry: Entry) -> str:
    comments = "".join(f"  # {printable(line)}\n" for line in entry.why)
    path, target = _scalar(entry.path), _scalar(entry.target)
    return f"{comments}  {entry.name}:\n    path: {path}\n    target: {target}\n"


def _scalar(path: str) -> str:
    """PATH in YAML; what is not plain goes between double quotes, as in JSON."""
    if _PLAIN.fullmatch(path):
        return path
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"YAML can't hold {printable(path)}", "give it a name in UTF-8") from None
    return json.dumps(path)
