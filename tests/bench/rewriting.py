"""How fast options are rewritten, by the API, the socket, the command; and layers leased."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import ovl_linkd
from ovl_linkd import client
from tests.bench import world
from tests.bench.figures import Figure, Sample, rounds, sample
from tests.system.machine import LINK

LAYERS = (10, 52, 128, 200)
ROUNDS = 300
LEASE = 500.0  # budget, µs
_SOCKET = "/run/ovl-linkd/control.sock"
_FARM = "/run/leased"  # not where another theme's is: a farm remembers whatever was leased in it
_FILE = 700_000  # bytes of an fstab; the command takes a mebibyte


def measure(effort: float) -> Iterator[Figure]:
    """The standard daemon answers; its link leads to a store without a single layer in it."""
    with world.daemon():
        for layers in LAYERS:
            yield _api(layers, rounds(ROUNDS, effort))
        yield _socket(LAYERS[2], rounds(ROUNDS, effort))
        yield from _command(rounds(10, effort))
    yield from _leases(rounds(ROUNDS, effort))


def _leases(count: int) -> Iterator[Figure]:
    """Requests to the farm: for a layer that has no entry yet, for one that has, for many."""
    layers = [f"{world.STORE}/{number}" for number in range(max(LAYERS[2], 4 * count))]
    for layer in layers:
        os.mkdir(layer)
    fresh = iter(layers)
    asked: dict[str, Callable[[], list[str]]] = {
        "a layer that is new to it": lambda: [next(fresh)],
        "a layer that it knows": lambda: layers[:1],
        f"{LAYERS[2]} layers that it knows": lambda: layers[: LAYERS[2]],
    }
    command = f"varlinkctl call {_SOCKET} {client.INTERFACE}.Lease, by client.call()"
    with world.with_a_farm(_FARM), world.daemon():
        for what, paths in asked.items():
            client.call(_SOCKET, "Lease", paths=paths())
            spent = _timed(partial(_lease, paths), count)
            budget = LEASE if what.startswith("a ") else None
            yield Figure(f"Lease of {what}", spent, "µs", budget=budget, command=command)
    for layer in layers:
        os.rmdir(layer)


def _lease(paths: Callable[[], list[str]]) -> None:
    client.call(_SOCKET, "Lease", paths=paths())


def options(layers: int) -> str:
    """A container's mount by containerd's long names."""
    below = ":".join(f"{world.STORE}/{number}/fs" for number in range(101, 101 + layers))
    return (
        f"index=off,workdir={world.STORE}/100/work,upperdir={world.STORE}/100/fs,lowerdir={below}"
    )


def _api(layers: int, count: int) -> Figure:
    given, links = options(layers), {LINK: world.STORE}
    spent = _timed(lambda: ovl_linkd.shorten(given, links), count)
    note = f"{layers / spent.p50:.1f} million layers a second"
    what = f"ovl_linkd.shorten() of {layers} layers"
    return Figure(what, spent, "µs", note=note, command="ovl_linkd.shorten(options, links)")


def _socket(layers: int, count: int) -> Figure:
    given = options(layers)
    spent = _timed(lambda: client.call(_SOCKET, "Rewrite", options=given), count)
    command = f"varlinkctl call {_SOCKET} {client.INTERFACE}.Rewrite, by client.call()"
    return Figure(f"Rewrite of {layers} layers by the socket", spent, "µs", command=command)


def _timed(task: Callable[[], object], count: int) -> Sample:
    """The microseconds of each call of TASK."""
    spent = []
    for _ in range(count):
        began = time.perf_counter()
        task()
        spent.append((time.perf_counter() - began) * 1e6)
    return sample(spent)


def _command(count: int) -> Iterator[Figure]:
    """A large file through the command, its start included."""
    # Few layers: by the link they fit into the 255 bytes of a mount(8) from 2.39 on.
    line = f"overlay /mnt overlay {options(10)} 0 0\n"
    text = line * (_FILE // len(line))
    script = Path(sys.executable).with_name("ovl-linkd")
    command = [str(script), "rewrite", "--as", "fstab"]
    speeds = []
    for _ in range(count):
        began = time.perf_counter()
        done = subprocess.run(
            command,
            input=text.encode(),
            env=world.environment(),
            capture_output=True,
            check=True,
        )
        speeds.append(len(text) / (time.perf_counter() - began) / 1e6)
    assert len(done.stdout) < len(text)
    lines = text.count("\n")
    what = f"a file of {lines} mounts with 52 layers each"
    yield Figure(what, sample(speeds), "MB/s", command="ovl-linkd rewrite --as fstab <FILE")
