"""containerd's configuration: what it says of itself, else its file, else its defaults."""

import os
from typing import Any, NamedTuple

from ovl_linkd.machine import trusted

CONFIGURATION = "/etc/containerd/config.toml"
ROOT = "/var/lib/containerd"
UNIT = "containerd.service"

# Those that bring a containerd of their own: file, root, units.
_OTHERS = (
    (
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        "/var/lib/rancher/k3s/agent/containerd",
        ("k3s.service", "k3s-agent.service"),
    ),
    (
        "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        "/var/lib/rancher/rke2/agent/containerd",
        ("rke2-server.service", "rke2-agent.service"),
    ),
)
PLUGIN = "io.containerd.snapshotter.v1.overlayfs"


class Containerd(NamedTuple):
    """``source``: where this is from, for people. ``found``: whether there is any configuration.

    ``root``: its state directory. ``root_path``: the overlay snapshotter's own setting, None where
    it isn't set. ``trouble``: why the configuration could not be read. ``units``: which start it.
    """

    source: str
    found: bool
    root: str = ROOT
    root_path: str | None = None
    trouble: str | None = None
    units: tuple[str, ...] = (UNIT,)

    @property
    def snapshotter(self) -> str:
        """The directory of the overlay snapshotter where root_path doesn't name another one."""
        return f"{self.root.rstrip('/')}/{PLUGIN}"


def read(file: str = CONFIGURATION, *, ask: bool = True) -> Containerd:
    """containerd's configuration, in FILE; ASK: by containerd itself where it is installed.

    Never raises: what can't be read is in ``trouble``, and the defaults stand for it.
    """
    if not os.path.lexists(file):
        return Containerd("its defaults", False)
    import tomllib

    source = file
    try:
        trusted.read(file)
        text = _dump(file) if ask else None
        if text is not None:
            source = f"containerd config dump, from {file}"
            return _understood(source, tomllib.loads(text))
        return _understood(source, _with_imports(file))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Containerd(source, True, trouble=reason)


def others(root: str = "", proc: str = "/proc") -> list[Containerd]:
    """Every further containerd: those of k3s and rke2, and those that run by another file.

    None of them is asked: a file that was named by a process is not handed to a program as root.
    """
    found = [
        read(root + file, ask=False)._replace(root=state, units=units)
        for file, state, units in _OTHERS
        if os.path.lexists(root + file)
    ]
    known = {CONFIGURATION, *(file for file, _, _ in _OTHERS)}
    return found + [
        read(file, ask=False)._replace(units=())
        for file in sorted(_in_use(proc))
        if file not in known
    ]


def _in_use(proc: str) -> set[str]:
    """The configuration files that root's containerds of this mount namespace were given.

    Anybody may call a process containerd; and in another namespace a path is another file.
    """
    here = os.readlink("/proc/self/ns/mnt")
    found = set()
    for pid in os.listdir(proc):
        if not pid.isdigit():
            continue
        try:
            if os.stat(f"{proc}/{pid}").st_uid or os.readlink(f"{proc}/{pid}/ns/mnt") != here:
                continue
            with open(f"{proc}/{pid}/cmdline", "rb") as stream:
                line = stream.read(trusted.MOST)
            words = [os.fsdecode(word) for word in line.split(b"\0")]
        except OSError:
            continue
        if words[0].rpartition("/")[2] == "containerd":
            found |= {file for file in map(_file, words, words[1:]) if file}
    return found


def _file(word: str, after: str) -> str | None:
    """The file that WORD names, with the word AFTER it, if it is containerd's --config."""
    name, equals, value = word.partition("=")
    if name not in ("-c", "--config"):
        return None
    file = value if equals else after
    return file if file.startswith("/") else None


def _dump(file: str) -> str | None:
    """What `containerd config dump` says: its file, imports and defaults; None if it can't."""
    import subprocess

    try:
        done = subprocess.run(
            ["containerd", "--config", file, "config", "dump"],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 and done.stdout else None


def _with_imports(file: str) -> dict[str, Any]:
    """FILE with what it imports over it, as containerd merges them; one level deep."""
    import glob
    import tomllib

    value = tomllib.loads(trusted.read(file).decode())
    imports = value.get("imports", [])
    for pattern in imports if isinstance(imports, list) else ():
        path = os.path.join(os.path.dirname(file), str(pattern))
        for each in sorted(glob.glob(path)):
            value = _over(value, tomllib.loads(trusted.read(each).decode()))
    return value


def _over(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            value = _over(below, value)
        merged[key] = value
    return merged


def _understood(source: str, value: dict[str, Any]) -> Containerd:
    plugins = value.get("plugins", {})
    plugin = plugins.get(PLUGIN, {}) if isinstance(plugins, dict) else None
    if not isinstance(plugin, dict):
        raise ValueError("plugins have to be tables")
    root_path = plugin.get("root_path") or None
    root = value.get("root") or ROOT
    if not isinstance(root, str) or not isinstance(root_path, str | None):
        raise ValueError("root and root_path have to be text")
    return Containerd(source, True, root, root_path)
