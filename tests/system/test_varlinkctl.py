"""systemd's own client asks the service, which it knows only by what it introspects.

systemd has it from 255 on: it is Debian 13's here, wherever the service itself runs.
"""

import json

import pytest

from tests.manuals import told, typed
from tests.system.machine import LINK, Machine
from tests.userland import Userland

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

INTERFACE = "org.ovl-linkd.Control"


class Client:
    """varlinkctl, from outside of the machine that the service runs on."""

    def __init__(self, machine: Machine, userland: Userland) -> None:
        self.socket = str(machine.path("/run/ovl-linkd/control.sock"))
        self._userland = userland

    def type(self, line: str) -> str:
        """What LINE of the documentation prints; the beginning if it would go on for ever."""
        line = line.replace("/run/ovl-linkd/control.sock", self.socket)
        if "--more" not in line:
            return self._userland.run("sh", "-c", line).stdout
        for seconds in (1, 5, 25):  # as long as it takes to begin
            done = self._userland.run("sh", "-c", f"timeout {seconds} {line}", code=124)
            if done.stdout:
                break
        return done.stdout

    def run(self, verb: str, *words: str, code: int = 0) -> str:
        done = self._userland.run(
            "varlinkctl", "--json=short", verb, self.socket, *words, code=code
        )
        return done.stdout + done.stderr


@pytest.fixture
def client(running: Machine, userland: Userland) -> Client:
    return Client(running, userland)


def test_it_introspects_and_calls(client: Client) -> None:
    assert '"product":"ovl-linkd"' in client.run("info")
    assert "method Status" in client.run("introspect", INTERFACE)
    said = json.loads(client.run("call", f"{INTERFACE}.Status", "{}"))
    (link,) = said["links"]
    assert (link["path"], link["state"]) == (LINK, "ok")


def test_it_is_told_what_was_refused(client: Client) -> None:
    parameters = json.dumps({"names": ["nobody"], "adopt": False})
    said = client.run("call", f"{INTERFACE}.Repair", parameters, code=1)
    assert f"{INTERFACE}.NoSuchLink" in said


def test_what_readers_are_told_to_type_says_what_they_expect(client: Client) -> None:
    in_page = "".join(typed("ovl-linkd.control.7")).splitlines()
    lines = [*told("Asking the daemon"), *in_page]
    assert len(lines) == 5
    for line in lines:
        said = client.type(line)
        assert ("method Status" if " introspect " in line else LINK) in said, line
