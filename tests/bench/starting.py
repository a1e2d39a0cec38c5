"""How long commands take from exec to exit."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import world
from tests.bench.figures import Figure, rounds, sample

ROUNDS = 100
BUDGET = 2.5  # times `python -I -c pass`
BARE = "python -I -c pass"
_LAYERS = 128
_LONG = "lowerdir=" + ":".join(f"{world.STORE}/{number}/fs" for number in range(_LAYERS))


def measure(effort: float) -> Iterator[Figure]:
    """Commands in turn with an interpreter that does nothing, the standard daemon running."""
    script = Path(sys.executable).with_name("ovl-linkd")
    module = [sys.executable, "-m", "ovl_linkd"]
    installed = [str(script)] if script.exists() else module
    runs = {
        BARE: [sys.executable, "-I", "-c", "pass"],
        "ovl-linkd status --json": [*installed, "status", "--json"],
        "ovl-linkd status": [*installed, "status"],
        f"ovl-linkd rewrite, {_LAYERS} layers": [*installed, "rewrite", _LONG],
        "ovl-linkd exec -- true": [*installed, "exec", "--", "true"],
        "ovl-linkd check": [*installed, "check"],
        "ovl-linkd --version": [*installed, "--version"],
    }
    with world.daemon():
        times = in_turn(runs, rounds(ROUNDS, effort))
        said = _run(runs["ovl-linkd status --json"]).stdout
        slowest = _slowest_imports([*module, "status", "--json"])
    assert '"running": true' in said
    bare = sample(times.pop(BARE))
    for name, spent in times.items():
        figure = Figure(name, sample(spent), "ms", BARE, bare, command=name)
        if name.endswith("--json"):
            figure = figure._replace(budget=BUDGET)
        yield figure if figure.kept is not False else figure._replace(note=slowest)


def in_turn(runs: dict[str, list[str]], count: int) -> dict[str, list[float]]:
    """The milliseconds from fork to exit of each, COUNT times."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    environment = world.environment()
    discard = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    for round_ in range(-1, count):  # the first one reads files that aren't in memory yet
        for name, command in runs.items():
            began = time.perf_counter()
            child = os.posix_spawn(command[0], command, environment, file_actions=discard)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            spent = time.perf_counter() - began
            if code:
                raise RuntimeError(f"{command} ended with {code}")
            if round_ >= 0:
                times[name].append(spent * 1000)
    return times


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
