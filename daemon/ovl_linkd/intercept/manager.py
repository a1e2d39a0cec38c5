"""What is asked of systemd: a scope for the supervisor, and how a command was to be started.

A service manager that is not there, or does not want to, is no error: where nothing ends a service
with all that is in it, nothing is missing. Source: org.freedesktop.systemd1(5).
"""

import os
import re
import time

from ovl_linkd.intercept.dbus import Connection, Failed, Text, Value

_SECONDS = 5.0
_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"


# That systemd-oomd leaves the scope alone (systemd 248), and systemd what is left of it when the
# kernel has killed one of it (253, and Debian's 252).
_SPARED: list[tuple[str, str, Value]] = [("ManagedOOMPreference", "s", "omit")]
_CONTINUED: list[tuple[str, str, Value]] = [("OOMPolicy", "s", "continue")]


def unit_of_this_process() -> str | None:
    """The service or scope that this process is in; None where there is none."""
    found = re.findall(r"/([^/\n]+\.(?:service|scope))(?=/|$)", _cgroup(), re.MULTILINE)
    return found[-1] if found else None


def ignores_sigpipe(unit: str | None) -> bool:
    """Whether this process was started by the service manager, for UNIT, with SIGPIPE ignored.

    That is what it does unless the unit says IgnoreSIGPIPE=no. Python does it in any case, so that
    this process can't tell.
    """
    if unit is None or os.environ.get("SYSTEMD_EXEC_PID") != str(os.getpid()):
        return False
    escaped = re.sub("[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):02x}", unit)
    body = Text()
    body.put("s", f"{_NAME}.Service")
    body.put("s", "IgnoreSIGPIPE")
    path = f"{_PATH}/unit/{escaped}"
    try:
        with Connection(_address(), _SECONDS) as systemd:
            where = (_NAME, path, "org.freedesktop.DBus.Properties", "Get")
            answer = systemd.call(where, "ss", bytes(body.data))
    except (OSError, Failed):
        return True
    return answer[:3] != b"\1b\0" or any(answer[4:8])


def enter_scope(before: str | None) -> str | None:
    """Have systemd move this process into a scope of its own; return its name, None without one.

    When the machine is shut down, the unit BEFORE is stopped first.
    """
    name = f"ovl-linkd-exec-{os.getpid()}.scope"
    properties: list[tuple[str, str, Value]] = [
        ("Description", "s", "Supervisor of ovl-linkd exec"),
        ("PIDs", "au", [os.getpid()]),
        ("CollectMode", "s", "inactive-or-failed"),
        # It ends by itself when those are gone whom it serves: there is nothing to wait for.
        ("TimeoutStopUSec", "t", 1_000_000),
    ]
    if before:
        properties.append(("Before", "as", [before]))
    # Older ones know less, and refuse what they don't know.
    return (
        _entered(name, [*properties, *_SPARED, *_CONTINUED])
        or _entered(name, [*properties, *_SPARED])
        or _entered(name, properties)
    )


def _entered(name: str, properties: list[tuple[str, str, Value]]) -> str | None:
    body = Text()
    body.put("s", name)
    body.put("s", "fail")
    with body.array(8):
        for key, kind, value in properties:
            body.align(8)
            body.put("s", key)
            body.variant(kind, value)
    with body.array(8):  # of further units
        pass
    try:
        with Connection(_address(), _SECONDS) as systemd:
            if systemd.peer == 0:  # by our number it would know another process, or none
                return None
            where = (_NAME, _PATH, f"{_NAME}.Manager", "StartTransientUnit")
            systemd.call(where, "ssa(sv)a(sa(sv))", bytes(body.data))
    except (OSError, Failed):
        return None
    return name if _arrived(name) else None


def _address() -> str:
    if os.geteuid() == 0:
        return "/run/systemd/private"
    return os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}") + "/systemd/private"


def _cgroup() -> str:
    try:
        with open("/proc/self/cgroup") as file:
            return file.read()
    except OSError:
        return ""


def _arrived(name: str) -> bool:
    """Wait until this process is in the scope: the answer only says that there will be one."""
    deadline = time.monotonic() + _SECONDS
    while name not in _cgroup():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
