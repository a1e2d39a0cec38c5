"""The supervisors of `ovl-linkd exec` that run on this machine: a small JSON file each.

`status`, the metrics and whoever uninstalls read them; a supervisor writes its own. Standard
library only.
"""

import json
import os
from typing import NamedTuple

from ovl_linkd.replacing import replace

DIRECTORY = "/run/ovl-linkd/exec"
_SCHEMA = 1


class Supervisor(NamedTuple):
    """One that runs. ``pid``: its guard. ``command``: what was started under it, as process
    ``command_pid``, which may be gone while what it started is not. ``since``: RFC 3339.
    ``seen``: calls of mount(2) that were looked at; of these ``rewritten``, ``refused``.
    """

    pid: int
    born: int
    command: list[str]
    command_pid: int
    since: str
    seen: int
    rewritten: int
    refused: int


def birth(pid: int) -> int | None:
    """When process PID was started, in clock ticks since the boot; None where none such lives.

    A number that is used again has another one.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if words[0] in (b"Z", b"X") else int(words[19])


def write(supervisor: Supervisor, directory: str = DIRECTORY) -> None:
    """Replace the file of SUPERVISOR. Raises OSError."""
    os.makedirs(directory, 0o755, exist_ok=True)
    text = json.dumps({"schema_version": _SCHEMA, **supervisor._asdict()})
    replace(_file(supervisor.pid, directory), text)


def remove(pid: int, directory: str = DIRECTORY) -> None:
    """Remove the file of supervisor PID, and what only that was there for."""
    try:
        os.unlink(_file(pid, directory))
        os.rmdir(directory)
    except OSError:
        pass


def running(directory: str = DIRECTORY) -> list[Supervisor]:
    """Those that run, the oldest first; what others left behind is passed over."""
    found = []
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    for name in names:
        supervisor = _read(os.path.join(directory, name))
        if supervisor and birth(supervisor.pid) == supervisor.born:
            found.append(supervisor)
    return sorted(found, key=lambda each: each.born)


def sweep(directory: str = DIRECTORY) -> None:
    """Remove the files of those that were killed."""
    alive = {f"{each.pid}.json" for each in running(directory)}
    try:
        for name in os.listdir(directory):
            if name.endswith(".json") and name not in alive:
                os.unlink(os.path.join(directory, name))
    except OSError:
        pass


def _file(pid: int, directory: str) -> str:
    return os.path.join(directory, f"{pid}.json")


def _read(path: str) -> Supervisor | None:
    """What _file() holds; None where it was written by a version with another layout."""
    if not path.endswith(".json"):
        return None
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            value = json.load(file)
        if value["schema_version"] != _SCHEMA:
            return None
        return Supervisor(**{name: value[name] for name in Supervisor._fields})
    except (OSError, ValueError, KeyError, TypeError):
        return None
