"""The README's commands, in the order in which it tells them, and those of a manual page."""

import os
from pathlib import Path

import pytest

from tests.manuals import told, typed
from tests.system.machine import CHECKOUT, LINK, TARGET, Machine

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

DROP_IN = "/etc/ovl-linkd/config.yaml.d/50-more.yaml"
LINES = "/etc/tmpfiles.d/ovl-linkd.conf"
# How this machine reaches the registry that `make install` needs.
REGISTRY = [
    f"{key}={value}"
    for key, value in os.environ.items()
    if key.startswith("PIP_") or key.lower().endswith("_proxy")
]


def test_its_minute_of_use_takes_no_longer(running: Machine) -> None:
    """Nothing is put in but what a reader has to: which link, which layers, whose mounts."""
    running.systemctl("stop", "ovl-linkd")
    running.path(LINK).unlink()
    long, short = (f"lowerdir={where}/2/fs:{where}/1/fs" for where in (TARGET, LINK))
    # A node with containerd is more than this needs.
    mounts = f"mount -t overlay overlay /mnt -o {long},upperdir=/mnt/u,workdir=/mnt/w"
    running.write("/usr/local/bin/ctr", f"#!/bin/sh\necho '{mounts}'\n")
    running.path("/usr/local/bin/ctr").chmod(0o755)
    running.run("mount", "-t", "tmpfs", "store", TARGET)
    running.run("mount", "-t", "tmpfs", "upper", "/mnt")
    running.run("mkdir", "-p", f"{TARGET}/1/fs", f"{TARGET}/2/fs", "/mnt/u", "/mnt/w")
    given = f"LAYERS={TARGET}/2/fs:{TARGET}/1/fs UPPER=/mnt/u WORK=/mnt/w SHORT={short}"
    said = {}
    for line in told("A minute of use"):
        code, command = 0, line.replace("NAME", "ctrdl")
        if line == "ovl-linkd run":
            command = f"systemd-run --quiet --property=Type=notify {line}"
        elif line.endswith("--watch"):
            code, command = 124, f"timeout 1 {line}"  # until it is interrupted
        said[line] = running.run("sh", "-c", f"{given}; {command}", code=code).stdout

    assert "ok" in said["ovl-linkd status"]
    assert '"state": "ok"' in said["ovl-linkd status --json"]
    assert said['ovl-linkd rewrite --expand "$SHORT"'] == f"{long}\n"
    assert f"lowerdir={LINK}/2/fs:{LINK}/1/fs" in running.run("cat", "/proc/self/mountinfo").stdout


def test_what_the_manual_pages_say_to_type_to_a_service(running: Machine) -> None:
    """Of ovl-linkd(8) what is for systemd; its examples are run by test_docs.py."""
    for_systemd, *_examples = typed("ovl-linkd.8")
    change, guard, drop_in = typed("ovl-linkd.yaml.5")
    for block in (for_systemd, change, guard):
        running.run("sh", "-ec", block)
    outside = f"links: {{a: {{path: /srv/a, target: {TARGET}}}}}\n"
    running.write("/etc/ovl-linkd/config.yaml.d/a.yaml", outside)
    assert "ReadWritePaths=-/srv" in running.run("sh", "-ec", drop_in).stdout


def test_what_it_tells_an_administrator_works_as_it_stands(scratch: Path) -> None:
    """From the checkout to a service that runs, on a machine that has never heard of it."""
    for name in ("nothing", "place"):
        (scratch / name).mkdir()
    machine = Machine(scratch / "nothing", scratch / "place", network=True)
    machine.write("/etc/systemd/system/containerd.service", "[Service]\nExecStart=true\n")
    machine.write(DROP_IN, "links: {old: {path: /run/old, target: /srv}}\n")
    machine.boot()
    said = {}
    try:
        for line in [*told("Install"), *told("Operate")]:
            # doctor ends with 1 where something is to be mended, on whatever machine this is.
            code = None if line == "ovl-linkd doctor" else 0
            words = ("env", *REGISTRY, "sh", "-c", f"cd {CHECKOUT} && {line}")
            said[line] = machine.run(*words, code=code).stdout

        assert machine.link() == TARGET
        assert f"wrote {LINES}" in said["make install"], "a configuration was there before"
        assert f"wrote {LINES}" in said["ovl-linkd init"]
        assert f"L {LINK} " in machine.path(LINES).read_text()
        assert 'Status: "1 link ok, 2 dangling"' in said["systemctl status ovl-linkd"]
        assert LINK in said["journalctl -x -u ovl-linkd"]
        assert "# TYPE ovl_linkd_links gauge" in said["cat /run/ovl-linkd/metrics.prom"]
        assert "mounts\n" in said["ovl-linkd doctor"]
    finally:
        machine.scrap()


def test_what_it_tells_of_the_message_id_is_true(running: Machine) -> None:
    (line,) = [line for line in told("Operate") if "MESSAGE_ID=" in line]
    running.path(LINK).unlink()
    running.run("ovl-linkd", "repair")
    assert f"restored {LINK}" in running.journal(line.removeprefix("journalctl "))


def test_it_can_be_taken_off_as_told(running: Machine) -> None:
    (line,) = told("Uninstall")
    running.run("sh", "-c", f"cd {CHECKOUT} && {line}")
    assert running.link() is None
