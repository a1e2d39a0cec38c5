"""The journal: every entry findable and explained, none lost in silence, and nobody kept waiting.

The journald is a real one, started here in the /run that the tests have to themselves.
"""

import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from systemd.journal import stream_fd

from ovl_linkd.intercept import saying
from ovl_linkd.links.history import Change, Repair, Status
from ovl_linkd.links.link import Link
from ovl_linkd.links.plot import Trouble
from ovl_linkd.service.report import MESSAGE_IDS, Report, event, what
from ovl_linkd.service.systemd import Log
from tests.bounds import within
from tests.waiting import PATIENCE, wait_until

CATALOG = Path(__file__).parents[1] / "systemd" / "ovl-linkd.catalog"


def status(state: str = "ok", **keys: Any) -> Status:
    link = keys.pop("link", Link("ctrdl", "/run/ctrdl", "/var/lib/store"))
    sick = state in ("blocked", "waiting", "failing", "dangling")
    return Status(
        link=link,
        state=state,
        actual=keys.pop("actual", link.target),
        target_exists=True,
        reason="a directory is at /run/ctrdl" if sick else None,
        remedy="move /run/ctrdl away" if sick else None,
        since=0.0,
        repairs=0,
        last_repair=None,
        next_try=None,
        fighting=keys.pop("fighting", False),
    )._replace(**keys)


MISSING = Repair(0.0, "missing", 95e-6)
#: one of each kind that the keeper makes
CHANGES = {
    "made": Change(None, status(), MISSING),
    "restored": Change(status(), status(), MISSING),
    "blocked": Change(status(), status("blocked")),
    "unblocked": Change(status("blocked"), status(), MISSING),
    "ok": Change(status("dangling"), status()),
    "dangling": Change(status(), status("dangling")),
    "missing": Change(status(), status("missing")),
    "wrong": Change(status(), status("wrong", actual="/x")),
    "waiting": Change(status(), status("waiting")),
    "failing": Change(status(), status("failing")),
    "fight": Change(status(), status("wrong", fighting=True, actual="/x")),
    "fight-over": Change(status(fighting=True), status()),
}


def logger_of(log: Log) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(log)
    return logger


@pytest.fixture
def opened() -> Iterator[Callable[..., logging.Logger]]:
    """Makes loggers of Logs, which are closed after the test."""
    logs: list[Log] = []

    def make(*arguments: Any, **keys: Any) -> logging.Logger:
        logs.append(Log(*arguments, **keys))
        return logger_of(logs[-1])

    yield make
    for log in logs:
        log.close()


def say_that_it_is_the_journal(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.fstat(descriptor)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, socket.socket]]:
    """What leads to the journal, as a stream does in a service, and journald's end of it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        say_that_it_is_the_journal(ours.fileno(), monkeypatch)
        yield ours, theirs


# --- a real journal --------------------------------------------------------------------------


class Journal:
    """The test's own journald, and what `journalctl` shows of it."""

    def stream(self) -> int:
        """What systemd gives a service as its standard error."""
        descriptor: int = stream_fd("a-service", 6, True)
        return descriptor

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        done = self._run("-o", "json", "--all", *matches)
        return [json.loads(line) for line in done.splitlines()]

    def explained(self, database: Path, *matches: str) -> str:
        """What -x says with the catalog DATABASE in place of the machine's."""
        home = "/var/lib/systemd/catalog"
        script = f'mkdir -p {home} && mount --bind "$0" {home} && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", script, str(database), *self._command("-x")]
        return subprocess.run(
            [*command, *matches], capture_output=True, text=True, check=True
        ).stdout

    def _run(self, *arguments: str) -> str:
        command = self._command(*arguments)
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def _command(self, *arguments: str) -> list[str]:
        return ["journalctl", "--no-pager", "-q", "-D", "/run/log/journal", *arguments]


@pytest.fixture(scope="module")
def journal() -> Iterator[Journal]:
    directory = Path("/run/systemd/journal")
    directory.mkdir(parents=True, exist_ok=True)
    sockets = [str(directory / name) for name in ("socket", "stdout", "dev-log")]
    daemon = subprocess.Popen(
        ["/lib/systemd/systemd-journald"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # All of them: it makes one after the other, and what is sent in between goes another way.
        wait_until(lambda: all(map(os.path.exists, sockets)), "a journald")
        yield Journal()
    finally:
        daemon.terminate()
        daemon.wait()
        for each in sockets:
            Path(each).unlink(missing_ok=True)


@pytest.fixture
def logger(
    journal: Journal, opened: Callable[..., logging.Logger], monkeypatch: pytest.MonkeyPatch
) -> Iterator[logging.Logger]:
    """Logs as a service does whose standard error systemd connected to the journal."""
    descriptor = journal.stream()
    say_that_it_is_the_journal(descriptor, monkeypatch)
    yield opened(descriptor)
    os.close(descriptor)


@pytest.mark.needs("root", "journalctl")
def test_a_repair_is_found_by_its_id_and_by_its_link(
    journal: Journal, logger: logging.Logger
) -> None:
    """`journalctl MESSAGE_ID=… LINK=ctrdl`, and programs that read -o json."""
    wrong = Repair(0.0, "wrong", 0.000123, "/elsewhere")
    Report(logger).tell([Change(status(), status(), wrong)], 0.0)
    matches = [f"MESSAGE_ID={MESSAGE_IDS['restored']}", "LINK=ctrdl"]
    (found,) = wait_until(lambda: journal.entries(*matches), "the entry")
    assert {
        "MESSAGE": "restored /run/ctrdl -> /var/lib/store (found wrong: /elsewhere; 123 µs)",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "ovl-linkd",
        "PATH": "/run/ctrdl",
        "TARGET": "/var/lib/store",
        "STATE": "ok",
        "FOUND": "wrong",
        "FOUND_TARGET": "/elsewhere",
        "TOOK_USEC": "123",
        "_TRANSPORT": "journal",
        "_PID": str(os.getpid()),
    }.items() <= found.items()


@pytest.mark.needs("root", "journalctl")
def test_a_path_of_any_bytes_arrives_whole_and_forges_nothing(
    journal: Journal, logger: logging.Logger
) -> None:
    """A newline in a value would else begin a field of the attacker's choice."""
    evil = "/x\nPRIORITY=0\nMESSAGE=all is lost\n\x1b[2J\udcff="
    seen = status("wrong", link=Link("evil", "/run/evil", "/t"), actual=evil)
    Report(logger).tell([Change(status(), seen)], 0.0)
    (found,) = wait_until(lambda: journal.entries("LINK=evil"), "the entry")
    assert bytes(found["ACTUAL"]) == os.fsencode(evil)
    assert found["PRIORITY"] == "4"
    assert found["MESSAGE"].startswith("/run/evil: wrong")


@pytest.mark.needs("root", "journalctl")
def test_an_error_s_traceback_is_one_entry(journal: Journal, logger: logging.Logger) -> None:
    try:
        raise ValueError("a\x1b[2J")
    except ValueError as error:
        logger.error("bad\nluck", exc_info=error, extra=event("bug"))
    (found,) = wait_until(lambda: journal.entries(f"MESSAGE_ID={MESSAGE_IDS['bug']}"), "the entry")
    lines = found["MESSAGE"].splitlines()
    assert lines[0] == r"bad\nluck"
    assert lines[-1] == r"ValueError: a\x1b[2J"
    assert found["PRIORITY"] == "3"


@pytest.mark.needs("root", "journalctl")
def test_what_is_too_long_for_a_datagram_still_arrives(
    journal: Journal, logger: logging.Logger
) -> None:
    """The kernel refuses a datagram beyond the socket's buffer (net.core.wmem_default)."""
    logger.warning("begin %s end", "x" * 40_000, extra={"journal": {"LINK": "y" * 10_000_000}})
    (found,) = wait_until(
        lambda: [one for one in journal.entries() if one["MESSAGE"][:7] == "begin x"], "the entry"
    )
    assert found["_TRANSPORT"] == "stdout"
    assert found["PRIORITY"] == "4"


# --- no journal, or one that does not read ---------------------------------------------------


def test_without_journald_the_message_takes_the_stream(
    stderr: tuple[socket.socket, socket.socket],
    tmp_path: Path,
    opened: Callable[..., logging.Logger],
) -> None:
    """sd_journal_send(3) reports success here, and the message would be gone."""
    ours, theirs = stderr
    logger = opened(ours.fileno(), str(tmp_path / "gone"))
    logger.warning("one", extra=event("degraded"))
    logger.error("two\nlines")
    assert theirs.recv(1000) == b"<4>one\n<3>two\\nlines\n"


def test_a_restarted_journald_is_found_again(
    stderr: tuple[socket.socket, socket.socket],
    tmp_path: Path,
    opened: Callable[..., logging.Logger],
) -> None:
    ours, _theirs = stderr
    address = str(tmp_path / "socket")
    logger = opened(ours.fileno(), address)
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
            journald.bind(address)
            logger.info("hello")
            journald.setblocking(False)
            assert b"MESSAGE=hello\n" in journald.recv(1000)
        os.unlink(address)


def test_a_journald_that_hangs_holds_nobody_up(
    stderr: tuple[socket.socket, socket.socket],
    tmp_path: Path,
    opened: Callable[..., logging.Logger],
) -> None:
    """As on a failing disk. sd_journal_send(3) waits after some messages, and a repair with it."""
    ours, theirs = stderr
    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(address)
        logger = opened(ours.fileno(), address)
        with within(PATIENCE):
            for number in range(10_000):
                logger.warning("message %d %s", number, "x" * 200)
        by_stream = 0
        while True:  # it reads again
            try:
                by_stream += theirs.recv(1 << 20).count(b"\n")
            except BlockingIOError:
                break
        journald.setblocking(False)
        by_datagram = 0
        while True:
            try:
                journald.recv(1000)
            except BlockingIOError:
                break
            by_datagram += 1
        logger.warning("again")
        journald.recv(1000)
        said = journald.recv(1000).decode()
    lost = 10_000 - by_stream - by_datagram
    assert lost > 0, "the test did not fill the queues"
    assert f"MESSAGE={lost} messages before this one are lost" in said


def test_what_was_redirected_is_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., logging.Logger]
) -> None:
    """A shell in a unit, `ovl-linkd run 2>FILE`: the variable is there, the journal is not."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    with open(tmp_path / "log", "wb") as file:
        opened(file.fileno()).warning("plain", extra=event("degraded"))
    assert (tmp_path / "log").read_text() == "ovl-linkd: plain\n"


def test_a_reader_that_stops_reading_holds_nobody_up(
    opened: Callable[..., logging.Logger],
) -> None:
    """`ovl-linkd run 2>&1 | less`, and nobody turns the page."""
    reading, writing = os.pipe()
    logger = opened(writing)
    with within(PATIENCE):
        for _ in range(10_000):
            logger.warning("x" * 100)
    os.read(reading, 1 << 20)
    logger.warning("again")
    assert b"messages before this one are lost" in os.read(reading, 1 << 20)
    os.close(reading)
    logger.warning("nobody is left")  # EPIPE is no reason to die
    os.close(writing)


def test_without_a_standard_error_there_is_no_log_and_no_failure() -> None:
    script = "from ovl_linkd.service.systemd import open_log; open_log().error('into the void')"
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", script],
        env={"PYTHONPATH": str(CATALOG.parents[1] / "daemon")},
        check=False,
    )
    assert done.returncode == 0


# --- what happened, and its explanation ------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CHANGES if not name.startswith("fight")])
def test_each_change_has_its_id(name: str) -> None:
    assert what(CHANGES[name]) == name


@pytest.mark.parametrize(
    ("change", "name"),
    [
        # Somebody moved the obstacle away and made the right link by hand.
        (Change(status("blocked"), status()), "unblocked"),
        # The obstacle is gone, and its directory too: no link is back.
        (Change(status("blocked"), status("waiting")), "waiting"),
        # Put right, and blocked before it could be looked at.
        (Change(status(), status("blocked"), MISSING), "blocked"),
        # A wrong symlink was there before the daemon.
        (Change(None, status(), Repair(0.0, "wrong", 0.0, "/x")), "restored"),
        (Change(status(), status("dangling"), MISSING), "restored"),
        # Put right, and gone again before it could be looked at.
        (Change(status(), status("missing"), MISSING), "restored"),
    ],
)
def test_what_counts_is_how_the_link_is_now(change: Change, name: str) -> None:
    assert what(change) == name


def explanations() -> dict[str, str]:
    """MESSAGE_ID -> its whole entry in the catalog."""
    text = "".join(
        line for line in CATALOG.read_text().splitlines(True) if not line.startswith("#")
    )
    _, *parts = re.split(r"^-- ([0-9a-f]{32})$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_message_is_explained_and_nothing_else() -> None:
    numbers = [*MESSAGE_IDS.values(), *saying.MESSAGE_IDS.values()]
    assert len(set(numbers)) == len(numbers)
    assert explanations().keys() == set(numbers)
    for text in explanations().values():
        header, _, body = text.strip().partition("\n\n")
        assert re.match(r"Subject: .+\nDefined-By: ovl-linkd\nDocumentation: man:", header)
        assert len(body) > 50


class _Fields(logging.Handler):
    """Remembers the fields of what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, dict[str, str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        fields = record.__dict__["journal"]
        self.seen[fields["MESSAGE_ID"]] = fields


def test_an_explanation_uses_only_fields_that_are_there_and_harmless() -> None:
    """journalctl puts a field's name where there is none, and escapes no value.

    Where a symlink leads is for others to choose: it could steer the reader's terminal.
    """
    handler = _Fields()
    logger = logging.Logger("test")
    logger.addHandler(handler)
    for change in CHANGES.values():
        Report(logger).tell([change], 0.0)
    storm = Report(logger)
    storm.tell([CHANGES["restored"]] * 100, 0.0)
    storm.flush()
    trouble = Trouble("blocked", "a symlink is there", "move it away")
    Report(logger).farm("/run/ctrdf", trouble, 0.0)
    Report(logger).farm_restored("/run/ctrdf", 2)
    for number, text in explanations().items():
        used = set(re.findall("@([A-Z_]+)@", text))
        assert used <= handler.seen.get(number, {}).keys(), text
        assert not used & {"TARGET", "ACTUAL", "FOUND_TARGET"}, text
    told = {MESSAGE_IDS[name] for name in [*CHANGES, "storm", "farm", "farm-restored"]}
    assert handler.seen.keys() == told


def test_a_trouble_is_said_once_until_it_was_over(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk is met again at each resync, and would fill the log."""
    report = Report(logging.getLogger("ovl-linkd-test"))
    for trouble in ("full", "full", None, None, "full"):
        report.once("/run/metrics", trouble)
    report.once("/run/other", "full")
    assert [record.getMessage() for record in caplog.records] == ["full, ignoring"] * 3


def test_a_directory_that_can_t_be_watched_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    report = Report(logging.getLogger("ovl-linkd-test"))
    one, two = {"/a": OSError(13, "Permission denied")}, {"/b": OSError(28, "No space")}
    assert not report.unwatched({}, 60.0)
    assert [report.unwatched(found, 60.0) for found in (one, one, one | two, two, {}, one)] == [
        True, False, True, True, True, True,
    ]  # fmt: skip
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(";")[0] for text in said] == [
        "can't watch /a: Permission denied",
        "can't watch /b: No space",
        "can't watch /a: Permission denied",
    ]


def test_sentences_in_fields_are_printable() -> None:
    handler = _Fields()
    logger = logging.Logger("test")
    logger.addHandler(handler)
    evil = status("blocked", reason="it leads to /\x1b[2J\n\udcff", remedy="remove /\x1b")
    Report(logger).tell([Change(status(), evil)], 0.0)
    (fields,) = handler.seen.values()
    assert fields["REASON"] == r"it leads to /\x1b[2J\n\xff"
    assert fields["REMEDY"] == r"remove /\x1b"


@pytest.mark.needs("root", "journalctl")
def test_journalctl_explains_a_blocked_link_and_what_to_do(
    journal: Journal, logger: logging.Logger, tmp_path: Path
) -> None:
    """journalctl -x, with the catalog taken up as at an installation."""
    home = tmp_path / "usr/lib/systemd/catalog"
    home.mkdir(parents=True)
    (home / CATALOG.name).write_bytes(CATALOG.read_bytes())
    update = ["journalctl", f"--root={tmp_path}", "--update-catalog"]
    done = subprocess.run(update, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    listing = ["journalctl", f"--root={tmp_path}", "--list-catalog"]
    listed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} == explanations().keys()

    Report(logger).tell([CHANGES["blocked"]], 0.0)
    match = f"MESSAGE_ID={MESSAGE_IDS['blocked']}"
    (found,) = wait_until(lambda: journal.entries(match), "the entry")
    assert found["PRIORITY"] == "3"
    text = journal.explained(tmp_path / "var/lib/systemd/catalog", match)
    assert "Subject: The link ctrdl is blocked" in text
    assert "can't put a symlink at /run/ctrdl: a directory is at /run/ctrdl" in text
    assert "What to do: move /run/ctrdl away" in text
    assert not re.search("@[A-Z_]+@", text)
