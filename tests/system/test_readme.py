"""The README's commands for administrators, in the order in which it tells them."""

import re
from collections.abc import Iterator

import pytest

from tests.system.machine import CHECKOUT, LINK, TARGET, TOP, Machine

pytestmark = pytest.mark.needs("root", "systemd-nspawn")


def told(section: str) -> Iterator[str]:
    """The command lines of SECTION, without their comments."""
    text = (TOP / "README.md").read_text().partition(f"## {section}\n")[2]
    text = re.split(r"(?m)^##+ ", text)[0]
    for fence in re.findall(r"(?ms)^```sh\n(.*?)^```", text):
        for line in fence.splitlines():
            yield re.sub(r"\s+#.*", "", line)


def test_what_it_tells_an_administrator_works_as_it_stands(machine: Machine) -> None:
    """Installing takes a network, and was done from outside; all else is done in the machine."""
    machine.boot()
    machine.systemctl("disable", "--now", "ovl-linkd")
    machine.write("/etc/systemd/system/containerd.service", "[Service]\nExecStart=true\n")
    first, *lines = [*told("Install"), *told("Operate")]
    assert first == "make install"
    said = {}
    for line in lines:
        # doctor ends with 1 where something is to be mended, on whatever machine this is.
        code = None if line == "ovl-linkd doctor" else 0
        said[line] = machine.run("sh", "-c", line, code=code).stdout

    assert machine.link() == TARGET
    assert "2 links" in said["systemctl status ovl-linkd"]
    assert LINK in said["journalctl -x -u ovl-linkd"]
    assert "# TYPE ovl_linkd_links gauge" in said["cat /run/ovl-linkd/metrics.prom"]
    assert "mounts\n" in said["ovl-linkd doctor"]


def test_what_it_tells_of_the_message_id_is_true(running: Machine) -> None:
    (line,) = [line for line in told("Operate") if "MESSAGE_ID=" in line]
    running.path(LINK).unlink()
    running.run("ovl-linkd", "repair")
    assert f"restored {LINK}" in running.journal(line.removeprefix("journalctl "))


def test_it_can_be_taken_off_as_told(running: Machine) -> None:
    (line,) = told("Uninstall")
    running.run("sh", "-c", f"cd {CHECKOUT} && {line}")
    assert running.link() is None
