"""What an administrator is told: by the journal, also one in trouble, and by the metrics."""

import json
import re
import signal
from typing import Any

import pytest

from ovl_linkd.service.report import MESSAGE_IDS
from tests.system.machine import LINK, TARGET, Machine
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root", "systemd-nspawn")

# Leaves no room in the queue of journald's socket.
FILL = """
from socket import AF_UNIX, SOCK_DGRAM, SOCK_NONBLOCK, socket
for _ in range(20):
    with socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK) as sender:
        try:
            while True:
                sender.sendto(b"MESSAGE=full\\n", "/run/systemd/journal/socket")
        except BlockingIOError:
            pass
"""
METRICS = "/run/ovl-linkd/metrics.prom"
RESTORED = f"MESSAGE_ID={MESSAGE_IDS['restored']}"


def entries(machine: Machine, *matches: str) -> list[dict[str, Any]]:
    """The service's entries that match."""
    said = machine.journal("-u", "ovl-linkd", "-o", "json", *matches)
    return [json.loads(line) for line in said.splitlines()]


def signal_journald(machine: Machine, number: signal.Signals) -> None:
    words = ("--kill-whom=main", f"--signal={number.name}", "systemd-journald.service")
    machine.systemctl("kill", *words)


def restored(machine: Machine) -> bool:
    return machine.link() == TARGET


def test_a_repair_is_found_in_the_journal_by_its_id(running: Machine) -> None:
    running.path(LINK).unlink()
    wait_until(lambda: entries(running, RESTORED))
    (found,) = entries(running, RESTORED, "LINK=ctrdl", "FOUND=missing")
    assert found["TARGET"] == TARGET
    assert found["PRIORITY"] == "4"
    assert int(found["TOOK_USEC"]) > 0


def test_the_journal_explains_it_and_says_what_to_do(running: Machine) -> None:
    running.run("journalctl", "--update-catalog")
    running.systemctl("stop", "ovl-linkd")
    running.path(LINK).unlink()
    running.path(LINK).mkdir()
    running.systemctl("start", "ovl-linkd")
    match = f"MESSAGE_ID={MESSAGE_IDS['blocked']}"
    wait_until(lambda: entries(running, match))
    said = running.run("journalctl", "-x", "-q", "--no-pager", match).stdout
    assert "Subject: The link ctrdl is blocked" in said
    assert f"What to do: move {LINK} away" in said
    running.path(LINK).rmdir()
    wait_until(lambda: entries(running, f"MESSAGE_ID={MESSAGE_IDS['unblocked']}"))


def test_a_journald_that_hangs_keeps_no_link_waiting(running: Machine) -> None:
    """As with a disk that fails. Before it is noticed, every other service may stand still."""
    signal_journald(running, signal.SIGSTOP)
    running.run("python3", "-I", "-c", FILL)
    for _ in range(3):
        running.run("ovl-linkd", "reload")
    running.path(LINK).unlink()
    wait_until(lambda: restored(running))
    signal_journald(running, signal.SIGCONT)
    wait_until(lambda: f"restored {LINK}" in running.journal("-u", "ovl-linkd"))
    assert running.journal("-u", "ovl-linkd").count("configuration loaded") == 3
    assert running.show("NRestarts") == "0"


def test_without_a_journal_socket_nothing_is_lost(running: Machine) -> None:
    running.path("/run/systemd/journal/socket").unlink()
    running.path(LINK).unlink()
    wait_until(lambda: restored(running))
    wait_until(lambda: f"restored {LINK}" in running.journal("-u", "ovl-linkd"))
    (found,) = [one for one in entries(running) if one["MESSAGE"].startswith("restored")]
    assert (found["_TRANSPORT"], found["PRIORITY"]) == ("stdout", "4")


def test_the_metrics_are_there_without_being_asked_for(running: Machine) -> None:
    """In the sandbox too, and for node_exporter, which is no root."""
    text = running.run("setpriv", "--reuid=65534", "--clear-groups", "cat", METRICS).stdout
    assert 'ovl_linkd_links{state="ok"} 1\n' in text
    assert text.endswith("# EOF\n")
    running.path(LINK).unlink()
    # Once made at the boot, unless tmpfiles or the early unit did, and once just now.
    wait_until(lambda: 'found="missing"} 0' not in running.path(METRICS).read_text())


def test_ten_thousand_repairs_are_a_handful_of_lines_and_all_counted(running: Machine) -> None:
    """One after the other, as a clean-up script in a loop makes them."""
    script = f"""
import os, time
for _ in range(10_000):
    os.unlink({LINK!r})
    while not os.path.islink({LINK!r}):
        time.sleep(1e-5)  # where there is one processor, it is the daemon's
"""
    running.run("python3", "-I", "-c", script, timeout=600)
    count = re.compile('repairs_total{found="missing"} (10000|10001)$', re.MULTILINE)
    wait_until(lambda: count.search(running.path(METRICS).read_text()))
    times = [int(one["__MONOTONIC_TIMESTAMP"]) / 1e6 for one in entries(running, RESTORED)]
    # Ten in each ten seconds; how long it takes is the machine's affair.
    assert 5 <= len(times) <= 20 + (times[-1] - times[0])
    assert restored(running)
