"""A farm from its first entry to a hundred thousand: requests, memory, a restart, a storm."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ovl_linkd import client
from tests.bench import world
from tests.bench.figures import Figure, Sample, rounds, sample

COUNTS = (1, 1_000, 10_000, 100_000)
LEASE = 500.0  # budget of one request: µs
_BATCH = 500
_FARM = "/run/ctrdf"
_SOCKET = "/run/ovl-linkd/control.sock"
_REQUEST = f"varlinkctl call {_SOCKET} {client.INTERFACE}.Lease, by client.call()"


def measure(effort: float) -> Iterator[Figure]:
    """One number of entries after the other, in a farm that grows."""
    store = world.fresh("layers")
    counts = COUNTS if effort == 1 else COUNTS[:2]
    made = 0
    with world.with_a_farm(_FARM):
        for count in counts:
            layers = [f"{store}/{number}" for number in range(made, count)]
            for layer in layers:
                os.mkdir(layer)
            yield from _grown(store, count, layers, rounds(300, effort))
            made = count
    shutil.rmtree(_FARM)


def _grown(store: Path, count: int, layers: list[str], requests: int) -> Iterator[Figure]:
    what = f"{count:,} {'entry' if count == 1 else 'entries'}"
    with world.daemon() as (daemon, _):
        for at in range(0, len(layers), _BATCH):
            client.call(_SOCKET, "Lease", None, paths=layers[at : at + _BATCH])
        daemon.settle(0.2)
        asked = [f"{store}/{number * count // requests}" for number in range(requests)]
        spent = _requests(asked)
        what_of = f"{what}: Lease of a layer among them"
        yield Figure(what_of, spent, "µs", budget=LEASE, command=_REQUEST)
    with world.daemon() as (daemon, took):
        yield Figure(f"{what}: start to READY", sample(took * 1000), "ms", command="ovl-linkd run")
        daemon.settle(0.2)
        command = "/proc/PID/smaps_rollup"
        memory = sample(daemon.memory()[0])
        yield Figure(f"{what}: PSS after the start", memory, "MiB", command=command)
        spent = sample(_storm(count))
        command = f"mv {_FARM} {_FARM}.aside"
        yield Figure(f"{what}: directory moved away to all back", spent, "ms", command=command)


def _requests(layers: list[str]) -> Sample:
    times = []
    for layer in layers:
        began = time.perf_counter()
        client.call(_SOCKET, "Lease", paths=[layer])
        times.append((time.perf_counter() - began) * 1e6)
    return sample(times)


def _storm(count: int) -> float:
    """Milliseconds until all entries are back after their directory was moved away."""
    began = time.perf_counter()
    os.rename(_FARM, f"{_FARM}.aside")
    while client.call(_SOCKET, "Status", None)["farm"]["repairs"] < count:
        time.sleep(0.005)
    spent = (time.perf_counter() - began) * 1000
    shutil.rmtree(f"{_FARM}.aside")
    return spent
