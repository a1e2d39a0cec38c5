"""Images of any number of layers, made here: an OCI layout in one tar file.

As of `FROM busybox` and a `RUN mktemp` for each layer: the first holds busybox, every other one a
file of its own, and one that it shares with its neighbour below, which the upper one has to win.
"""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from tests.system.machine import TOP

UNPACKED = TOP / "build/containerd"  # by `make setup-test`
REPOSITORY = "localhost:5000/layers"
# What a container's shell says of its layers; see seen().
LOOK = "ls /tmp | wc -l; cat /pair/*"

_APPLETS = ("cat", "ls", "mount", "sh", "sleep", "umount", "wc")
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def name(layers: int) -> str:
    """The name of the image of so many LAYERS."""
    return f"{REPOSITORY}:{layers}"


def seen(layers: int) -> str:
    """What LOOK prints where all LAYERS are mounted, in their order."""
    won = [*range(2, layers), layers - 1]
    return "".join(f"{number}\n" for number in [layers - 1, *won])


def write(file: Path, *counts: int) -> None:
    """Write to FILE an image of so many layers for each of COUNTS, of the same layers."""
    most = max(counts)
    layers = [_first(), *map(_layer, range(1, most))]
    with tarfile.open(file, "w") as archive:
        described = [_blob(archive, _LAYER, layer) for layer in layers]
        manifests = [_image(archive, described[:count]) for count in counts]
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", _json(mediaType=_INDEX, manifests=manifests))


def _first() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as layer:
        for directory in ("bin", "dev", "pair", "proc", "sys", "tmp"):
            _add(layer, directory, kind=tarfile.DIRTYPE)
        _add(layer, "bin/busybox", (UNPACKED / "usr/bin/busybox").read_bytes())
        for applet in _APPLETS:
            _add(layer, f"bin/{applet}", kind=tarfile.SYMTYPE, leads_to="busybox")
    return made.getvalue()


def _layer(number: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as layer:
        _add(layer, f"tmp/tmp.{number:03}", b"")
        for pair in {max(number - 1, 1), number}:
            _add(layer, f"pair/{pair:03}", b"%d\n" % number)
    return made.getvalue()


def _image(archive: tarfile.TarFile, layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the image into the archive; what the index says of it."""
    config = _json(
        # The machine's own, whatever it is called: containerd runs no other.
        architecture=_architecture(),
        os="linux",
        config={"Cmd": ["sleep", "inf"], "Env": ["PATH=/bin"]},
        rootfs={"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    )
    manifest = _json(mediaType=_MANIFEST, config=_blob(archive, _CONFIG, config), layers=layers)
    described = _blob(archive, _MANIFEST, manifest)
    return described | {"annotations": {"io.containerd.image.name": name(len(layers))}}


def _architecture() -> str:
    """This machine's, in Go's words."""
    import os

    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _json(**members: Any) -> bytes:
    return json.dumps({"schemaVersion": 2} | members).encode()


def _blob(archive: tarfile.TarFile, kind: str, content: bytes) -> dict[str, Any]:
    """Put CONTENT into the archive; its descriptor."""
    digest = hashlib.sha256(content).hexdigest()
    _add(archive, f"blobs/sha256/{digest}", content)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}


def _add(
    archive: tarfile.TarFile,
    path: str,
    content: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    leads_to: str = "",
) -> None:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.linkname = kind, 0o755, leads_to
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
