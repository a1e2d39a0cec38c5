"""`make bench`: everything that is promised and more, measured side by side in one run.

Figures are printed and kept in build/bench.json, of which tests/bench/page.py makes
docs/benchmarks.md. Exit codes: 0 every budget is kept, 1 one is missed, 2 it can't be measured.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.bench import world
from tests.bench.figures import Figure, table
from tests.bench.themes import THEMES

TOP = Path(__file__).parents[2]
QUICK = 0.005  # of the effort, to see that it works


def main() -> int:
    """Measure what was asked for, print it, keep it."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only see whether it works")
    parser.add_argument("--results", type=Path, default=TOP / "build/bench.json", metavar="FILE")
    parser.add_argument("only", nargs="*", metavar="THEME", help=f"of {', '.join(THEMES)}")
    options = parser.parse_args()
    if unknown := set(options.only) - set(THEMES):
        parser.error(f"no theme is named {min(unknown)}")
    results = _kept(options.results)
    try:
        world.enter()
        for program in ("loop", "remover"):
            world.compiled(program)
    except OSError as error:
        print(f"bench: a mount namespace is needed: {error.strerror}; run as root", file=sys.stderr)
        return 2
    print("\n".join(f"{name}: {value}" for name, value in results["machine"].items()), flush=True)
    worst = 0
    for name in options.only or list(THEMES):
        theme = _measured(name, QUICK if options.quick else 1.0)
        results["themes"][name] = theme
        options.results.parent.mkdir(exist_ok=True)
        options.results.write_text(json.dumps(results, indent=1) + "\n")
        missed = any(each["kept"] is False for each in theme["figures"])
        worst = max(worst, 2 if theme["trouble"] else int(missed))
    return worst


def _kept(file: Path) -> dict[str, Any]:
    """The figures of earlier runs in FILE, if they are of the same machine."""
    fresh: dict[str, Any] = {"machine": _machine(), "themes": {}}
    with contextlib.suppress(OSError, ValueError):
        earlier: dict[str, Any] = json.loads(file.read_text())
        if earlier["machine"] == fresh["machine"]:
            known = {name: each for name, each in earlier["themes"].items() if name in THEMES}
            return {**fresh, "themes": known}
    return fresh


def _measured(name: str, effort: float) -> dict[str, Any]:
    """The figures of the theme NAME, as JSON, and what kept others from being measured."""
    print(f"\n{THEMES[name].title} ({name})", flush=True)
    load, began = os.getloadavg()[0], time.monotonic()
    figures: list[Figure] = []
    trouble = None
    try:
        figures.extend(THEMES[name].measure(effort))
    except Exception as error:  # one theme that fails must not take the others' figures with it
        trouble = str(error) or type(error).__name__
        traceback.print_exc()
    spent = time.monotonic() - began
    print(f"{table(figures)}\n{spent:.0f} s", flush=True)
    return {
        "taken": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(spent),
        "load": round(load, 2),
        "quick": effort < 1,
        "trouble": trouble,
        "figures": [each.as_json() for each in figures],
    }


def _machine() -> dict[str, str]:
    """On what it runs."""
    model = "unknown"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if "model name" in line), model)
    system = platform.freedesktop_os_release()
    return {
        "Processor": f"{model}, {platform.machine()}, {os.cpu_count()} of them",
        "Kernel": platform.release(),
        "System": f"{system.get('PRETTY_NAME', 'unknown')}, {_version('systemctl')}",
        "mount(8)": _version("mount"),
        "Python": platform.python_version(),
        "C compiler": _version("cc"),
    }


def _version(command: str) -> str:
    """The first line of what COMMAND says of its version."""
    with contextlib.suppress(OSError):
        done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
        return done.stdout.partition("\n")[0].removeprefix(f"{command} from ")
    return "none"


if __name__ == "__main__":
    sys.exit(main())
