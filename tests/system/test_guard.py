"""The farm and guarded links in a booted systemd, and the unit that makes them append-only."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from ovl_linkd.links.flags import is_append_only
from tests.manuals import told
from tests.system.machine import CHECKOUT, Machine
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

README = Path(__file__).parents[2] / "README.md"
DROP_IN = "/etc/ovl-linkd/config.yaml.d/50-farm.yaml"
GUARD = "ovl-linkd-guard.service"
FARM = "/run/ctrdf"
PYTHON = "/usr/local/lib/ovl-linkd/env/bin/python"
LEASE = """
import os, sys
from ovl_linkd import leasing, published
(prefix,) = leasing.lease([os.fsencode(sys.argv[1])], published.known(None))
print(os.fsdecode(prefix.short))
"""


def status(machine: Machine) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(machine.run("ovl-linkd", "status", "--json").stdout)["farm"]
    return said


def lease(machine: Machine, layer: str) -> str:
    return machine.run(PYTHON, "-I", "-c", LEASE, layer).stdout.strip()


def test_a_guarded_farm_from_boot_to_uninstallation(machine: Machine) -> None:
    machine.write(DROP_IN, "farm: {path: /run/ctrdf, guard: append-only}\n")
    machine.enable(GUARD)
    machine.boot()
    assert machine.show("ActiveState", GUARD) == "active"
    assert machine.show("StatusText") == "1 link ok, farm ok"
    assert machine.journal("-p", "warning", "-u", "ovl-linkd*") == ""
    short = lease(machine, "/usr/share")
    assert short == f"{FARM}/1"
    farm = status(machine)
    assert (farm["state"], farm["guarded"], farm["entries"]) == ("ok", True, 1)
    # What the sandbox leaves: one capability for the guard, and none for the daemon.
    assert machine.show("CapabilityBoundingSet", GUARD) == "cap_linux_immutable"
    assert machine.show("CapabilityBoundingSet") == ""
    for command in (["rm", short], ["rm", "-rf", FARM], ["mv", FARM, "/run/x"]):
        assert machine.run(*command, code=1).stderr.count("Operation not permitted")
    # A restart of the daemon is one boot to the farm, though the sandbox hides which.
    machine.systemctl("restart", "ovl-linkd")
    assert lease(machine, "/usr/share") == short
    assert machine.journal("-g", "ids go on above") == ""
    machine.systemctl("stop", "ovl-linkd")
    assert machine.show("ActiveState", GUARD) == "active", "it protects also what nobody keeps"
    machine.systemctl("start", "ovl-linkd")

    machine.write(DROP_IN, "farm: {path: /run/ctrdf}\n")
    machine.systemctl("reload", "ovl-linkd")
    wait_until(lambda: status(machine)["guarded"] is False)
    assert status(machine)["guard"] == "none"
    machine.run("rm", short)
    wait_until(lambda: machine.run("readlink", short, code=None).stdout == "/usr/share\n")

    machine.write(DROP_IN, "farm: {path: /run/ctrdf, guard: append-only}\n")
    machine.systemctl("reload", "ovl-linkd")
    wait_until(lambda: status(machine)["guarded"] is True)
    # What there is to do helps whether or not the unit takes itself for active.
    for off in (["ovl-linkd", "guard", "--off"], ["systemctl", "stop", GUARD]):
        machine.run(*off)
        assert status(machine)["guarded"] is False
        machine.run("sh", "-ec", status(machine)["remedy"])
        assert status(machine)["guarded"] is True


def kept(machine: Machine) -> dict[str, Any]:
    (link,) = json.loads(machine.run("ovl-linkd", "status", "--json", code=None).stdout)["links"]
    return {key: link[key] for key in ("path", "target", "state", "guarded")}


def test_a_guarded_link_from_boot_to_uninstallation(machine: Machine) -> None:
    def configure(path: str, target: str) -> dict[str, Any]:
        link = f"{{path: {path}, target: {target}, guard: append-only}}"
        machine.write(DROP_IN, f"links: {{ctrdl: {link}}}\n")
        return {"path": path, "target": target, "state": "ok", "guarded": True}

    wanted = configure("/run/ov/l", "/usr/share")
    machine.enable(GUARD)
    machine.boot()
    assert kept(machine) == wanted
    assert machine.journal("-p", "warning", "-u", "ovl-linkd*") == ""
    for command in (["rm", "/run/ov/l"], ["rm", "-rf", "/run/ov"], ["mv", "/run/ov", "/run/x"]):
        assert "Operation not permitted" in machine.run(*command, code=1).stderr
    machine.run("systemd-tmpfiles", "--create", "ovl-linkd.conf")  # as the next boot does

    # What the daemon may not exchange the guard does, and the daemon hears of it.
    wanted = configure("/run/ov/l", "/usr/bin")
    machine.systemctl("reload", "ovl-linkd")
    wait_until(lambda: kept(machine) == wanted)
    # A directory that is guarded no longer is as any other again, though no link lies in it now.
    wanted = configure("/run/ov2/l", "/usr/bin")
    machine.systemctl("reload", "ovl-linkd")
    wait_until(lambda: kept(machine) == wanted)
    wait_until(lambda: is_append_only(str(machine.path("/run/ov"))) is False)
    machine.run("rm", "-r", "/run/ov")

    machine.run("sh", "-c", f"cd {CHECKOUT} && make uninstall")
    assert not os.path.lexists(machine.path("/run/ov2"))
    assert not os.path.lexists(machine.path("/var/lib/ovl-linkd-guard"))


def test_uninstalling_takes_the_guard_off_and_the_farm_away(machine: Machine) -> None:
    machine.write(DROP_IN, "farm: {path: /run/ctrdf, guard: append-only}\n")
    machine.enable(GUARD)
    machine.boot()
    lease(machine, "/usr/share")
    machine.run("sh", "-c", f"cd {CHECKOUT} && make uninstall")
    assert [name for name in os.listdir(machine.path("/run")) if "ctrd" in name] == []


def test_without_a_guard_in_the_configuration_the_unit_does_nothing(machine: Machine) -> None:
    machine.enable(GUARD)
    machine.boot()
    assert machine.show("ActiveState", GUARD) == "active"
    assert "nothing is to be guarded" in machine.journal("-u", GUARD)


def test_what_the_readme_tells_of_the_farm(running: Machine) -> None:
    (text,) = re.findall("(?s)```yaml\n(farm:.*?)```", README.read_text())
    running.write("/etc/ovl-linkd/config.yaml.d/farm.yaml", text)
    store = f"/srv/{'a-store-of-long-names-' * 4}"
    paths = [f"{store}/{number}" for number in range(100)]
    running.run("mkdir", "-p", *paths)
    layers = ":".join(paths)
    said = {
        line: running.run("sh", "-c", f"LAYERS={layers}; {line}").stdout
        for line in told("The farm: a name for each layer")
    }
    (rewritten,) = (text for line, text in said.items() if line.startswith("ovl-linkd rewrite"))
    assert rewritten.startswith(f"lowerdir={FARM}/1:{FARM}/2:")
    (shown,) = (text for line, text in said.items() if line.startswith("ovl-linkd status"))
    assert f"farm  ok  {FARM}  100 of 100,000 entries" in shown
    assert running.show("ActiveState", GUARD) == "active"
