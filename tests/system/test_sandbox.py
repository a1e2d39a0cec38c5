"""What the service can't do, tried from inside: by a command of the unit's own, after its start."""

import json
import re
from pathlib import Path

import pytest

from tests.system.machine import LINK, SERVICE, Machine

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

REPORT = "/run/ovl-linkd-sandbox.json"

# name -> what must fail, as Python; each raises OSError (or is killed) where it is refused
REFUSED = {
    "write /etc": "open('/etc/x', 'w')",
    "write /usr": "open('/usr/x', 'w')",
    "write /var": "open('/var/lib/x', 'w')",
    "write root's home": "open('/root' + '/x', 'w')",
    "write /home": "open('/home/x', 'w')",
    "write /tmp": "open('/tmp/x', 'w')",
    "write /opt": "open('/opt/x', 'w')",
    "write into the target": "open(os.readlink('/run/ctrdl') + '/x', 'w')",
    "a unit": "open('/run/systemd/system/evil.service', 'w')",
    "a unit by way of a new name": "os.rename('/run/systemd', '/run/elsewhere')",
    "a job for systemd-tmpfiles": "open('/run/tmpfiles.d/evil.conf', 'w')",
    "kernel settings of the next package": "open('/run/sysctl.d/evil.conf', 'w')",
    "an extension of /usr": "os.mkdir('/run/extensions/evil')",
    "to have systemd do it": "socket.socket(socket.AF_UNIX).connect('/run/systemd/private')",
    "to connect by io_uring": "check(libc.syscall(425, 1, ctypes.create_string_buffer(120)) < 0)",
    "a kernel setting": "open('/proc/sys/kernel/hostname', 'w')",
    "a cgroup": "os.mkdir('/sys/fs/cgroup/x')",
    "a device": "os.mknod('/run/sda', stat.S_IFBLK | 0o600, os.makedev(8, 0))",
    "the console": "open('/dev/console')",
    "another's file": "open('/run/private/file')",
    "to give a file away": "os.chown('/run/ovl-linkd/published.json', 1, 1)",
    "a set-uid file": "os.chmod('/run/ovl-linkd/published.json', 0o4755)",
    "another user": "os.setuid(1)",
    "a mount": "check(libc.mount(b'x', b'/mnt', b'tmpfs', 0, None))",
    "a namespace": "check(libc.unshare(0x10000000))",
    "an internet socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a netlink socket": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "writable code": "mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "another's process": "os.kill(1, 0)",
    "another's environment": "open('/proc/1/environ').read()",
    "a real-time priority": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "the clock": "time.clock_settime(time.CLOCK_REALTIME, 0)",
}
ALLOWED = {
    "a link in /run": "os.symlink('/srv', '/run/allowed')",
    "an exchange": "os.mkdir('/run/new'); os.rmdir('/run/new')",
    "to look at what is home": "os.listdir('/home')",
}
PROBE = """
import ctypes, json, mmap, os, socket, stat, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
report = {}
for name, what in json.load(open("/opt/probes.json")).items():
    try:
        exec(what)
    except OSError as error:
        report[name] = str(error)
    else:
        report[name] = None
json.dump(report, open("%s", "w"))
"""


def test_it_can_do_what_it_must_and_nothing_else(machine: Machine) -> None:
    """Root's files are root's, and so are the service's: without the sandbox nearly all of it
    would succeed."""
    machine.write("/opt/probe.py", PROBE % REPORT)
    machine.write("/opt/probes.json", json.dumps(REFUSED | ALLOWED))
    machine.write(
        "/etc/tmpfiles.d/private.conf", "d /run/private 0700 daemon\nf /run/private/file\n"
    )
    machine.write(
        f"/etc/systemd/system/{SERVICE}.d/probe.conf",
        "[Service]\nExecStartPost=/usr/bin/python3 -I /opt/probe.py\n",
    )
    machine.boot()
    report = json.loads(machine.path(REPORT).read_text())
    assert {name for name in ALLOWED if report[name] is not None} == set(), report
    assert {name for name in REFUSED if report[name] is None} == set()


def test_the_daemon_has_no_capability_and_a_filter(running: Machine) -> None:
    text = running.path(f"/proc/{running.show('MainPID')}/status").read_text()
    status = dict(re.findall(r"^(\w+):\t(.*)$", text, re.MULTILINE))
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_no_system_call_that_it_needs_is_refused(running: Machine) -> None:
    """Every way of a repair, and a child that reads the configuration; a refusal is logged."""
    path = running.path(LINK)
    path.unlink()
    running.run("ovl-linkd", "repair")
    foreign = path.with_name("foreign")
    foreign.symlink_to("/elsewhere")
    foreign.replace(path)
    running.run("ovl-linkd", "repair")
    running.systemctl("reload", "ovl-linkd")
    assert "Operation not permitted" not in running.journal("-u", "ovl-linkd")
    assert running.show("StatusText") == "1 link ok"


def test_others_may_read_what_it_publishes_and_not_change_it(running: Machine) -> None:
    as_nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    running.run(*as_nobody, "ovl-linkd", "status")
    done = running.run(*as_nobody, "ovl-linkd", "reload", code=1)
    assert "only root and the daemon's user may do this" in done.stderr
    for file in ("published.json", "metrics.prom"):
        assert Path(running.path(f"/run/ovl-linkd/{file}")).stat().st_mode & 0o777 == 0o644


def test_what_root_does_at_the_next_boot_is_not_up_to_the_daemon(running: Machine) -> None:
    """It may write in /run: what it publishes there, and a configuration that would be read."""
    running.path("/etc/tmpfiles.d/ovl-linkd.conf").unlink(missing_ok=True)
    evil = "{evil: {path: /etc/evil, target: /srv}}"
    running.write("/run/ovl-linkd/config.yaml.d/9.yaml", f"links: {evil}\n")
    published = running.path("/run/ovl-linkd/published.json")
    published.write_text(published.read_text().replace(LINK, "/etc/other"))

    assert "/etc/evil" in running.run("ovl-linkd", "tmpfiles").stdout
    running.run("ovl-linkd", "tmpfiles", "--write")
    assert not running.path("/etc/tmpfiles.d/ovl-linkd.conf").exists(), "the packaged lines hold"
