"""How long commands take from exec to exit, and the daemon to READY."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import world
from tests.bench.figures import Figure, median

ROUNDS = 60
BUDGET = 2.5  # times `python -I -c pass`
BARE = "python -I -c pass"
_OPTIONS = b"lowerdir=" + b":".join(b"%b/%d/fs" % (world.STORE.encode(), n) for n in range(128))


def commands() -> Iterator[Figure]:
    """Commands in turn with an interpreter that does nothing, the standard daemon running."""
    script = Path(sys.executable).with_name("ovl-linkd")
    module = [sys.executable, "-m", "ovl_linkd"]
    installed = [str(script)] if script.exists() else module
    runs = {
        BARE: [sys.executable, "-I", "-c", "pass"],
        "ovl-linkd status --json": [*installed, "status", "--json"],
        "python -m ovl_linkd status --json": [*module, "status", "--json"],
        "ovl-linkd status": [*installed, "status"],
        "ovl-linkd rewrite, 128 layers": [*installed, "rewrite", os.fsdecode(_OPTIONS)],
    }
    with world.daemon():
        times = _in_turn(runs)
        said = _run(runs["ovl-linkd status --json"]).stdout
        slowest = _slowest_imports([*module, "status", "--json"])
    assert '"running": true' in said
    bare = times.pop(BARE)
    for name, spent in times.items():
        budget = BUDGET if name.endswith("--json") else None
        note = slowest if budget and spent / bare > budget else ""
        yield Figure(name, spent, "ms", BARE, bare, budget, note)


def _in_turn(runs: dict[str, list[str]]) -> dict[str, float]:
    """The median milliseconds from fork to exit of each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    environment = world.environment()
    discard = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    for round_ in range(-3, ROUNDS):  # the first ones read files that aren't in memory yet
        for name, command in runs.items():
            began = time.perf_counter()
            child = os.posix_spawn(command[0], command, environment, file_actions=discard)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            spent = time.perf_counter() - began
            if code:
                raise RuntimeError(f"{command} ended with {code}")
            if round_ >= 0:
                times[name].append(spent * 1000)
    return {name: median(values) for name, values in times.items()}


def _slowest_imports(command: list[str]) -> str:
    """Where an interpreter says that the time of COMMAND goes."""
    verbose = [command[0], "-X", "importtime", *command[1:]]
    costs = []
    for line in _run(verbose).stderr.splitlines()[1:]:
        own, _, name = line.removeprefix("import time:").split("|")
        costs.append((int(own), name.strip()))
    slowest = ", ".join(f"{name} {own}" for own, name in sorted(costs, reverse=True)[:6])
    return f"slowest imports, µs: {slowest}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = world.environment()
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def daemons() -> Iterator[Figure]:
    """The daemon's start with few and with many links, none of them there yet."""
    for count in (1, 1_000, 10_000):
        ready, sizes = [], []
        for _ in range(5 if count < 10_000 else 3):
            directory = world.fresh("ours")
            links = [(f"{directory}/{number}", world.STORE) for number in range(count)]
            config = world.configuration("start", links)
            with world.daemon(config) as (process, took):
                ready.append(took * 1000)
                sizes.append(process.memory()[0])
        shutil.rmtree(directory)
        what = "1 link" if count == 1 else f"{count:,} links"
        yield Figure(f"start to READY, {what} missing", median(ready), "ms")
        yield Figure(f"  PSS, {what}", median(sizes), "MiB")
