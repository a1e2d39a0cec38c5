"""The log: one line that says it all, and a storm as a handful of them."""

import io
import logging

import pytest

from ovl_linkd.links.history import Change, Repair, Status
from ovl_linkd.links.link import Link
from ovl_linkd.service.report import MOST_LINES, WINDOW, Report, summary
from ovl_linkd.service.systemd import Printable


class Log:
    """A report, and the lines it wrote."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        logger = logging.Logger("test")
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(Printable("%(levelname)s %(message)s"))
        logger.addHandler(handler)
        self.report = Report(logger)

    def lines(self) -> list[str]:
        """What was written since the last call."""
        text = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        return text.splitlines()


@pytest.fixture
def log() -> Log:
    return Log()


def _status(state: str = "ok", name: str = "one", fighting: bool = False, **keys: object) -> Status:
    status = Status(
        link=Link(name, f"/run/{name}", "/t"),
        state=state,
        actual="/t",
        target_exists=True,
        reason=None,
        remedy=None,
        since=0.0,
        repairs=0,
        last_repair=None,
        next_try=None,
        fighting=fighting,
    )
    return status._replace(**keys)  # type: ignore[arg-type]


def _repaired(found: str = "missing", old: str | None = None, took: float = 0.0001) -> Change:
    return Change(_status(), _status(), Repair(0.0, found, took, old))


def test_a_repair_says_what_was_found_and_how_long_it_took(log: Log) -> None:
    log.report.tell([_repaired("wrong", "/elsewhere")], 0.0)
    assert log.lines() == ["WARNING restored /run/one -> /t (found wrong: /elsewhere; 100 µs)"]


def test_a_link_that_is_made_at_the_start_is_no_warning(log: Log) -> None:
    log.report.tell([_repaired()._replace(before=None)], 0.0)
    assert log.lines() == ["INFO made /run/one -> /t"]


def test_a_state_comes_with_its_cause_and_what_to_do(log: Log) -> None:
    after = _status("blocked", reason="a file is at /run/one", remedy="move /run/one away")
    log.report.tell([Change(_status(), after)], 0.0)
    assert log.lines() == [
        "ERROR /run/one: blocked: a file is at /run/one (to do: move /run/one away)"
    ]


def test_a_fight_is_one_line_when_it_begins_and_one_when_it_ends(log: Log) -> None:
    quiet, fighting = _status(), _status("wrong", fighting=True, actual="/x")
    log.report.tell([Change(quiet, fighting)], 0.0)
    assert len(log.lines()) == 1
    for _ in range(50):
        log.report.tell([Change(fighting, fighting, Repair(1.0, "wrong", 0.001, "/x"))], 1.0)
    assert log.lines() == []
    assert not log.report.unsaid()
    log.report.tell([Change(fighting, quiet)], 99.0)
    assert len(log.lines()) == 1


def test_a_symlink_s_text_can_t_forge_a_line(log: Log) -> None:
    evil = "/x\novl-linkd: restored /etc/shadow\x1b[2J\udcff%s"
    log.report.tell([_repaired("wrong", evil)], 0.0)
    (line,) = log.lines()
    assert r"/x\novl-linkd: restored /etc/shadow\x1b[2J\xff%s" in line
    log.report.tell([Change(_status(), _status("wrong", fighting=True, actual=evil))], 0.0)
    (line,) = log.lines()
    assert r"(now by /x\novl-linkd" in line


def test_a_storm_is_a_handful_of_lines_and_a_sum(log: Log) -> None:
    """10,000 links at once, or one every millisecond: the journal has others to serve."""
    log.report.tell([_repaired(took=number / 1e6) for number in range(10_000)], 0.0)
    assert len(log.lines()) == MOST_LINES
    assert log.report.unsaid()
    log.report.flush()
    (line,) = log.lines()
    assert f"{10_000 - MOST_LINES} more changes" in line
    assert "slowest repair 10.0 ms" in line
    assert not log.report.unsaid()
    log.report.flush()
    assert log.lines() == []


def test_after_the_storm_single_lines_are_back(log: Log) -> None:
    log.report.tell([_repaired()] * (MOST_LINES + 1), 0.0)
    log.lines()
    log.report.tell([_repaired()], WINDOW + 0.1)
    lines = log.lines()
    assert "1 more changes" in lines[0]
    assert lines[1].startswith("WARNING restored")


def test_a_fight_s_begin_and_end_are_said_even_in_a_storm(log: Log) -> None:
    log.report.tell([_repaired()] * 100, 0.0)
    log.lines()
    begin = Change(_status(), _status("wrong", fighting=True, actual="/x"))
    end = Change(_status("wrong", fighting=True), _status())
    log.report.tell([begin, end], 0.0)
    assert [line.split()[0] for line in log.lines()] == ["WARNING", "INFO"]


def test_the_summary_counts_what_is_not_ok() -> None:
    assert summary([]) == "0 links ok"
    assert summary([_status()]) == "1 link ok"
    states = ["ok", "waiting", "ok", "blocked", "waiting"]
    assert summary(map(_status, states)) == "2 links ok, 1 blocked, 2 waiting"
