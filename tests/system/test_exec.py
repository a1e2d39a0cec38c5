"""`ovl-linkd exec` in front of a service's ExecStart=, under a systemd that was booted."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.kernel.world import all_of, look, make_layers
from tests.manuals import told
from tests.system.machine import TARGET, Machine
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

EXEC = "/usr/local/bin/ovl-linkd exec --"
UNIT = "engine.service"
# An engine whose shim outlives it, as containerd's do, and mounts when it is asked to.
SHIM = """\
#!/bin/sh
while :; do
    if [ -e /run/ask ]; then
        mount -i -t overlay -o "$(cat /run/ask)" overlay /run/merged
        echo $? >/run/answer.new
        rm /run/ask
        mv /run/answer.new /run/answer
    fi
    sleep 0.02
done
"""
ENGINE = """\
#!/bin/sh
if ! [ -e /run/shim ]; then setsid /usr/local/bin/shim & fi
touch /run/shim
systemd-notify --ready
exec sleep inf
"""
SERVICE = f"""\
[Service]
Type=notify
NotifyAccess=all
ExecStart={EXEC} /usr/local/bin/engine
KillMode=process
"""


@pytest.fixture
def node(running: Machine) -> Machine:
    """A machine with the engine, which runs, and a store of its own."""
    for name, text in (("shim", SHIM), ("engine", ENGINE)):
        running.write(f"/usr/local/bin/{name}", text)
        running.path(f"/usr/local/bin/{name}").chmod(0o755)
    running.write(f"/run/systemd/system/{UNIT}", SERVICE)
    running.run("mount", "-t", "tmpfs", "store", TARGET)
    running.path("/run/merged").mkdir()
    running.systemctl("daemon-reload")
    running.systemctl("start", UNIT)
    return running


def mount(node: Machine, ids: range) -> None:
    """Have the shim mount as many layers, count them, and take them off."""
    make_layers(ids, os.fsencode(node.path(TARGET)))
    options = "lowerdir=" + ":".join(f"{TARGET}/{number}/fs" for number in ids)
    assert len(options) > 4095
    node.write("/run/ask.new", options)
    node.run("mv", "/run/ask.new", "/run/ask")
    answer = node.path("/run/answer")
    wait_until(answer.exists)
    assert answer.read_text() == "0\n"
    answer.unlink()
    assert node.run("sh", "-c", "ls -d /run/merged/only/* | wc -l").stdout == f"{len(ids)}\n"
    assert look(os.fsencode(node.path("/run/merged"))) == all_of(ids)
    node.run("umount", "/run/merged")
    node.run("mountpoint", "-q", "/run/merged", code=32)


def supervisor(node: Machine) -> str:
    """The scope of the only supervisor."""
    units = node.systemctl("list-units", "--plain", "--no-legend", "ovl-linkd-exec-*.scope")
    (line,) = units.splitlines()
    return line.split()[0]


def kill_workers(node: Machine, scope: str) -> None:
    """Kill all of the supervisor but the guard, whose children the others are."""
    cgroup = node.path(f"/sys/fs/cgroup{node.show('ControlGroup', scope)}/cgroup.procs")
    pids = list(map(int, cgroup.read_text().split()))
    parents = {pid: int(Path(f"/proc/{pid}/stat").read_text().split()[3]) for pid in pids}
    workers = [pid for pid in pids if parents[pid] in pids]
    assert len(workers) >= 2
    for worker in workers:
        os.kill(worker, signal.SIGKILL)


def test_a_container_still_mounts_after_its_engine_was_restarted(node: Machine) -> None:
    """And after a worker was killed, and after the package was upgraded under it.

    The filter is inherited: without a supervisor every mount(2) of a container that outlives its
    engine would answer ENOSYS.
    """
    ids = range(227, 99, -1)
    mount(node, ids)
    scope = supervisor(node)
    assert node.show("ActiveState", scope) == "active"
    assert UNIT in node.show("Before", scope)

    node.systemctl("restart", UNIT)
    mount(node, ids)

    kill_workers(node, scope)
    mount(node, ids)

    for environment in node.path("/usr/local/lib/ovl-linkd").glob("env*/lib"):
        shutil.rmtree(environment)
    kill_workers(node, scope)
    mount(node, ids)
    assert node.show("ActiveState", scope) == "active"


def test_nothing_is_left_when_the_last_one_is_gone(node: Machine) -> None:
    scope = supervisor(node)
    node.systemctl("stop", UNIT)
    assert node.show("ActiveState", scope) == "active", "the shim still runs"
    node.run("pkill", "shim")
    wait_until(lambda: node.show("ActiveState", scope) == "inactive")
    assert not node.path("/run/ovl-linkd/exec").exists()


@pytest.mark.parametrize(
    "more", ["", "IgnoreSIGPIPE=no\n", "SystemCallFilter=~@swap\nNoNewPrivileges=yes\n"]
)
def test_a_service_s_command_starts_as_it_would_without_us(running: Machine, more: str) -> None:
    """With the process that systemd started, what it ignores, and what it was passed."""
    script = "grep -E '^(Sig[^Q]|NoNew|Cap)' /proc/self/status; env | sort"
    said = []
    for number, front in enumerate(("", EXEC)):
        running.write(
            f"/run/systemd/system/t{number}.service",
            "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
            f"StandardOutput=file:/run/t{number}\n{more}"
            f'ExecStart={front} /bin/sh -c "{script}"\n',
        )
    running.systemctl("daemon-reload")
    for number in (0, 1):
        running.systemctl("start", f"t{number}")
        text = running.path(f"/run/t{number}").read_text()
        changing = r"(?m)^(INVOCATION_ID|SYSTEMD_EXEC_PID|JOURNAL_STREAM|MEMORY_PRESSURE_\w+)=.*\n"
        said.append(re.sub(changing, "", text))
    assert "SigIgn" in said[0]
    assert said[1].replace("LIBMOUNT_FORCE_MOUNT2=always\n", "") == said[0]
    assert said[1] != said[0]


def test_what_the_readme_tells_of_it_works_as_it_stands(node: Machine) -> None:
    ids = range(160, 100, -1)
    make_layers(ids, os.fsencode(node.path(TARGET)))
    options = "lowerdir=" + ":".join(f"{TARGET}/{number}/fs" for number in ids)
    node.write("/run/environment", f"OPTIONS='{options}' TARGET=/run/merged\n")
    said = {}
    for line in told("Anything else"):
        script = f". /run/environment; {line}"
        said[line] = node.run("sh", "-c", script, code=None if "journalctl" in line else 0)
    assert look(os.fsencode(node.path("/run/merged"))) == all_of(ids)
    (status,) = [done for line, done in said.items() if "status" in line]
    assert re.search(r"(?m)^exec /usr/local/bin/engine, pid \d+, since .* seen, ", status.stdout)


def test_a_refusal_is_a_line_of_the_journal(node: Machine) -> None:
    """The program only gets a number."""
    options = "lowerdir=" + ":".join(f"{TARGET}/{number:0100}/fs" for number in range(60))
    done = node.run(
        *EXEC.split(), "mount", "-i", "-t", "overlay", "-o", options, "o", "/run/merged", code=32
    )
    assert "wrong fs type, bad option" in done.stderr
    said = node.journal("MESSAGE_ID=bacfd0c01c4249218d8fcc8dec19b402").splitlines()
    assert len(said) == 1
    assert re.fullmatch(
        r"mount\(2\) by mount \(\d+\) on /run/merged: refused: .* too long even through the link: "
        r".*\(what would help: .*\)",
        said[0],
    )
