"""How much of the system each service leaves open to itself, as systemd weighs it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure, sample

BUDGET = 1.0  # of 10
_UNITS = Path(__file__).parents[2] / "systemd"
_PEERS = Path("/usr/lib/systemd/system")  # root's services that Debian itself confines


def measure(_effort: float) -> Iterator[Figure]:
    """Our units; for comparison some of systemd's, where they are installed."""
    for unit in sorted(_UNITS.glob("*.service")):
        yield _exposure(unit)._replace(budget=BUDGET)
    for name in ("systemd-hostnamed.service", "systemd-journald.service"):
        if (unit := _PEERS / name).exists():
            yield _exposure(unit)._replace(note="systemd's own")


def _exposure(unit: Path) -> Figure:
    command = ["systemd-analyze", "--no-pager", "security", "--offline=yes"]
    done = subprocess.run([*command, unit], capture_output=True, text=True, check=False)
    said = re.search(r"exposure level for \S+: (\d+\.\d+)", done.stdout)
    if not said:
        raise RuntimeError(f"{unit}: {done.stderr}")
    return Figure(unit.name, sample(float(said[1])), "", command=" ".join([*command, unit.name]))
