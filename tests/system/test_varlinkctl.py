"""systemd's own client asks the service, which knows it only by what it introspects.

systemd has it from 255 on; conftest.py leaves this file out elsewhere.
"""

import json

import pytest

from tests.system.machine import LINK, Machine

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

SOCKET = "/run/ovl-linkd/control.sock"
INTERFACE = "org.ovl-linkd.Control"


def varlinkctl(machine: Machine, *words: str, code: int = 0) -> str:
    done = machine.run("varlinkctl", "--json=short", *words, code=code)
    return done.stdout + done.stderr


def test_it_introspects_and_calls(running: Machine) -> None:
    assert "Product: ovl-linkd" in running.run("varlinkctl", "info", SOCKET).stdout
    assert "method Status" in running.run("varlinkctl", "introspect", SOCKET, INTERFACE).stdout
    said = json.loads(varlinkctl(running, "call", SOCKET, f"{INTERFACE}.Status", "{}"))
    (link,) = said["links"]
    assert (link["path"], link["state"]) == (LINK, "ok")


def test_it_is_told_what_was_refused(running: Machine) -> None:
    parameters = json.dumps({"names": ["nobody"], "adopt": False})
    said = varlinkctl(running, "call", SOCKET, f"{INTERFACE}.Repair", parameters, code=1)
    assert f"{INTERFACE}.NoSuchLink" in said
