"""`make bench`: the promised speeds, measured side by side in one run.

Exit codes: 0 every budget is kept, 1 one is missed, 2 it can't be measured here.
"""

import argparse
import contextlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import idling, planning, restoring, starting, world
from tests.bench.figures import Figure, table

BENCHES: dict[str, Callable[[], Iterator[Figure]]] = {
    "one": restoring.one_link,
    "many": restoring.many_links,
    "plan": planning.five_hundred_layers,
    "status": starting.commands,
    "idle": idling.at_rest,
    "mounts": idling.beside_mounts,
    "event": restoring.unrelated_events,
    "start": starting.daemons,
}


def main() -> int:
    """Measure what was asked for, print it."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    options = parser.parse_args()
    if unknown := set(options.only) - set(BENCHES):
        parser.error(f"no benchmark is named {min(unknown)}")
    try:
        world.enter()
    except OSError as error:
        print(f"bench: a mount namespace is needed: {error.strerror}; run as root", file=sys.stderr)
        return 2
    machine = _machine()
    figures = _measure(options.only or list(BENCHES))
    if options.json:
        print(json.dumps({**machine, "figures": [each.as_json() for each in figures]}, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in machine.items()))
        print(f"\n{table(figures)}")
    return int(any(each.kept is False for each in figures))


def _measure(names: list[str]) -> list[Figure]:
    world.compiled("loop")
    world.compiled("remover")
    figures: list[Figure] = []
    for name in names:
        print(f"bench: {name} ...", file=sys.stderr, flush=True)
        figures += BENCHES[name]()
    return figures


def _machine() -> dict[str, str]:
    """What was run, on what."""
    model = "unknown"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if "model name" in line), model)
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True)
    words = [sys.executable, "-m", "tests.bench", *sys.argv[1:]]
    return {
        "command": shlex.join(words),
        "machine": f"{platform.machine()}, {model}, {os.cpu_count()} processors",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "C compiler": compiler.stdout.splitlines()[0],
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


if __name__ == "__main__":
    sys.exit(main())
