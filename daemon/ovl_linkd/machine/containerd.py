"""containerd's configuration: what it says of itself, else its file, else its defaults."""

import os
import re
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
# What a file of version 1, which one without a version is, calls it.
_PLUGIN_1 = "overlayfs"
# cmd/containerd/server/config/config.go knows so many versions; where the plugin's table stands has
# been the same since the second.
_NEWEST = 4


class Containerd(NamedTuple):
    """``source``: where this is from, for people. ``found``: whether there is any configuration.

    ``root``: its state directory. ``root_path``: the overlay snapshotter's own setting, None where
    it isn't set. ``trouble``: why the configuration could not be read. ``refused``: why containerd
    itself doesn't take it. ``units``: which start it. ``release``: which containerd it is, None
    where none can be asked. ``table``: what heads the plugin's table in a file of this version;
    ``has_table``: whether the file itself has it already.
    """

    source: str
    found: bool
    root: str = ROOT
    root_path: str | None = None
    trouble: str | None = None
    units: tuple[str, ...] = (UNIT,)
    refused: str | None = None
    release: tuple[int, int, int] | None = None
    table: str = f'[plugins."{PLUGIN}"]'
    has_table: bool = False

    @property
    def snapshotter(self) -> str:
        """The directory of the overlay snapshotter where root_path doesn't name another one."""
        return f"{self.root.rstrip('/')}/{PLUGIN}"


def read(file: str = CONFIGURATION, *, ask: bool = True) -> Containerd:
    """containerd's configuration, in FILE; ASK: by containerd itself where it is installed.

    Never raises: what can't be read is in ``trouble``, and the defaults stand for it.
    """
    release = _release() if ask else None
    if not os.path.lexists(file):
        return Containerd("its defaults", False, release=release)
    import tomllib

    try:
        own = tomllib.loads(trusted.read(file).decode())
        text, refused = _dump(file) if ask else (None, None)
        if text is not None:
            source, whole = f"containerd config dump, from {file}", tomllib.loads(text)
        else:
            source, whole = file, _with_imports(file, own)
        plugin, table = _plugin(own)
        return _understood(source, whole)._replace(
            refused=refused, release=release, table=table, has_table=plugin is not None
        )
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return Containerd(file, True, trouble=reason, release=release)


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


def _release() -> tuple[int, int, int] | None:
    """Which containerd is installed; None where there is none or it doesn't say."""
    code, said, _ = _ask("--version")
    numbers = re.search(r"(?<![\w.])v?(\d+)\.(\d+)\.(\d+)", said)
    if code or numbers is None:
        return None
    major, minor, patch = map(int, numbers.groups())
    return major, minor, patch


def _dump(file: str) -> tuple[str | None, str | None]:
    """What `containerd config dump` says: its file, imports and defaults; else why it refuses.

    Neither where it knows no such command, which came with 1.3.
    """
    code, said, complaint = _ask("--config", file, "config", "dump")
    if code == 0 and said:
        return said, None
    last = complaint.strip().rpartition("\n")[2]
    refused = last.removeprefix("containerd: ")
    return None, refused if refused != last else None


def _ask(*words: str) -> tuple[int, str, str]:
    """What `containerd WORDS` ends with, and writes on its standard output and error."""
    import subprocess

    try:
        done = subprocess.run(
            ["containerd", *words],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 127, "", ""
    return done.returncode, done.stdout, done.stderr


def _with_imports(file: str, value: dict[str, Any]) -> dict[str, Any]:
    """VALUE, what FILE holds, with what it imports over it, as containerd merges them.

    One level deep.
    """
    import glob
    import tomllib

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
    plugin, _ = _plugin(value)
    if plugin is None and value.get("version", 1) > _NEWEST:
        raise ValueError(f"its version {value['version']} is newer than ovl-linkd knows")
    root_path = (plugin or {}).get("root_path") or None
    root = value.get("root") or ROOT
    if not isinstance(root, str) or not isinstance(root_path, str | None):
        raise ValueError("root and root_path have to be text")
    return Containerd(source, True, root, root_path)


def _plugin(value: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The overlay snapshotter's table in a file, None where it has none, and its heading there."""
    version = value.get("version", 1)
    if not isinstance(version, int):
        raise ValueError("version has to be a number")
    plugins = value.get("plugins", {})
    name, heading = (PLUGIN, f'"{PLUGIN}"') if version > 1 else (_PLUGIN_1, _PLUGIN_1)
    plugin = plugins.get(name, {}) if isinstance(plugins, dict) else None
    if not isinstance(plugin, dict):
        raise ValueError("plugins have to be tables")
    return plugin if name in plugins else None, f"[plugins.{heading}]"
