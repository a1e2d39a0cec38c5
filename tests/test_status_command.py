"""`status` without a daemon: what is on disk, in a table for people and in JSON for programs."""

import json
import os
import pty
import re
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ovl_linkd import cli, config, published
from ovl_linkd.commands.daemon import socket_path
from ovl_linkd.overlay.limits import of_this_kernel
from ovl_linkd.overlay.shorten import capacity
from ovl_linkd.published import Published
from tests.daemon.world import ENVIRONMENT, PYTHON, command
from tests.others import NOBODY, as_user

pytestmark = pytest.mark.needs("root")

HOSTILE = b"/x\n\x1b]0;owned\x07\x1b[2J\xff\xc2\x9b31m"


class Place(NamedTuple):
    """A configuration of one link, `top`/link -> `top`/t, and no daemon."""

    top: Path
    config: Path
    path: Path


@pytest.fixture
def place(scratch: Path) -> Place:
    (scratch / "t").mkdir()
    config = scratch / "config.yaml"
    whole = {
        "control-socket": str(scratch / "sock"),
        "links": {"one": {"path": str(scratch / "link"), "target": str(scratch / "t")}},
    }
    config.write_text(json.dumps(whole))
    return Place(scratch, config, scratch / "link")


def _json(place: Place, *words: str) -> tuple[int, dict[str, Any]]:
    run = command("status", "--json", "--config", place.config, *words)
    assert run.stderr == ""
    return run.returncode, json.loads(run.stdout)


# --- JSON ------------------------------------------------------------------------------------


def test_json_without_a_daemon_has_every_key_all_the_same(place: Place) -> None:
    """Additive only: a program that reads it today reads it in ten years."""
    place.path.symlink_to(place.top / "t")
    code, state = _json(place)
    assert code == 3
    assert state["schema_version"] == 1
    assert state["daemon"]["running"] is False
    assert state["farm"] is None
    (link,) = state["links"]
    limits = of_this_kernel()
    layers = {
        "plain": capacity(os.fsencode(place.top / "t"), limits),
        "short": capacity(os.fsencode(place.path), limits),
    }
    assert link.items() >= {
        "name": "one", "path": str(place.path), "target": str(place.top / "t"),
        "state": "ok", "actual": str(place.top / "t"), "target_exists": True,
        "since": None, "reason": None, "remedy": None, "next_try": None,
        "repairs": None, "last_repair": None, "layers": layers,
        "guard": "none", "guarded": None,
    }.items()  # fmt: skip


@pytest.mark.parametrize(
    ("what", "state", "actual"),
    [
        ("nothing", "missing", None),
        ("foreign", "wrong", "/elsewhere"),
        ("file", "blocked", None),
        ("dangling", "dangling", "the target"),
    ],
)
def test_the_state_is_as_seen_on_disk(
    place: Place, what: str, state: str, actual: str | None
) -> None:
    if what == "foreign":
        place.path.symlink_to("/elsewhere")
    elif what == "file":
        place.path.touch()
    elif what == "dangling":
        place.path.symlink_to(place.top / "t")
        (place.top / "t").rmdir()
        actual = str(place.top / "t")
    _, said = _json(place)
    (link,) = said["links"]
    assert (link["state"], link["actual"]) == (state, actual)
    assert link["reason"]


def test_not_utf_8_survives_json(place: Place) -> None:
    """Lone surrogates, as json.dumps writes them: os.fsencode gives the bytes back."""
    os.symlink(HOSTILE, place.path)
    _, said = _json(place)
    assert os.fsencode(said["links"][0]["actual"]) == HOSTILE


def test_status_changes_nothing(place: Place) -> None:
    before = sorted(os.listdir(place.top))
    assert command("status", "--config", place.config).returncode == 3
    assert sorted(os.listdir(place.top)) == before


def test_links_are_named(place: Place) -> None:
    code, state = _json(place, "one")
    assert [link["name"] for link in state["links"]] == ["one"]
    run = command("status", "--config", place.config, "two")
    assert run.returncode == 2
    assert run.stdout == ""
    assert "no link is named two" in run.stderr
    assert code == 3


# --- exit codes ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["links: [", "nonsense: 1\n", None], ids=["yaml", "key", "gone"])
def test_a_broken_configuration_is_can_t_tell(place: Place, text: str | None) -> None:
    """4 before 3 before 1: without links and socket, not even the daemon's absence is known."""
    if text is None:
        place.config.unlink()
    else:
        place.config.write_text(text)
    for words in (["--json"], [], ["one"]):
        run = command("status", "--config", place.config, *words)
        assert run.returncode == 4
        assert run.stdout == ""
        assert str(place.config) in run.stderr
        assert "  hint: " in run.stderr
        assert "Traceback" not in run.stderr


def test_a_socket_that_may_not_be_reached_is_can_t_tell(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    """Somebody may well listen there; to say "not running" would be a guess."""
    closed = place.top / "closed"
    closed.mkdir(mode=0o700)
    config = json.loads(place.config.read_text()) | {"control-socket": str(closed / "sock")}
    place.config.write_text(json.dumps(config))
    words = ["status", "--json", "--config", str(place.config)]
    assert as_user(NOBODY, lambda: _flushed(cli.main(words))) == 4
    state = json.loads(capfd.readouterr().out)
    assert "pid" not in state["daemon"]
    assert "Permission denied" in state["daemon"]["trouble"]


def _flushed(code: int) -> int:
    sys.stdout.flush()
    return code


def test_a_status_that_can_t_be_written_is_can_t_tell(place: Place) -> None:
    """1 would mean that some link isn't well, 3 that the daemon isn't running."""
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [*PYTHON, "-m", "ovl_linkd", "status", "--config", place.config],
            env=ENVIRONMENT,
            cwd="/",
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == 4
    assert run.stderr.startswith("ovl-linkd status: No space left on device\n  hint: ")


# --- a daemon of another version, or none of ours --------------------------------------------


@contextmanager
def _daemon(place: Place, *answers: list[dict[str, Any]], at: str = "sock") -> Iterator[None]:
    """Somebody at the socket who gives the replies of ANSWERS, one list a connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place.top / at))
        listener.listen(8)

        def serve() -> None:
            for replies in answers:
                connection, _ = listener.accept()
                with connection:
                    if not connection.recv(65_536):
                        continue  # only looked whether somebody listens
                    for reply in replies:
                        connection.sendall(json.dumps(reply).encode() + b"\0")

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def _told(place: Place, **other: Any) -> dict[str, Any]:
    """The link as a daemon tells of it."""
    return {
        "name": "one", "path": str(place.path), "target": str(place.top / "t"), "state": "ok",
        "actual": str(place.top / "t"), "since": "2026-01-01T00:00:00Z", "reason": None,
        "remedy": None, "next_try": None, "repairs": 0, "last_repair": None, **other,
    }  # fmt: skip


def _reply(*links: Any, **other: Any) -> dict[str, Any]:
    daemon = {"pid": 1, "version": "9", "since": "", "config_changed_on_disk": False}
    return {"parameters": {"links": list(links), "daemon": daemon}, **other}


_STRANGE = "the daemon's answer is not what this version understands"


@pytest.mark.parametrize("name", ["status", "repair", "reload"])
@pytest.mark.parametrize("what", ["empty", "no link", "less", "odd type", "odd repair", "odd path"])
def test_an_answer_of_another_version_is_said_to_be_one(place: Place, name: str, what: str) -> None:
    less = _told(place)
    del less["next_try"]
    answer = {
        "empty": {"parameters": {}},
        "no link": _reply(1),
        "less": _reply(less),
        "odd type": _reply(_told(place, repairs="many")),
        "odd path": _reply(_told(place, target="/\0\ud800")),
        "odd repair": _reply(_told(place, last_repair={})),
    }[what]
    with _daemon(place, [answer]):
        run = command(name, "--config", place.config)
    assert run.returncode == 4
    assert _STRANGE in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


def test_keys_that_a_later_version_adds_are_passed_over(place: Place) -> None:
    place.path.symlink_to(place.top / "t")
    with _daemon(place, [_reply(_told(place, mood="good"), more=1)]):
        assert command("status", "--config", place.config).returncode == 0


@pytest.mark.parametrize("problems", [None, 1, [1], [{"file": 1}]])
def test_a_refusal_of_another_version_is_a_refusal(place: Place, problems: Any) -> None:
    error = "org.ovl-linkd.Control.ConfigInvalid"
    with _daemon(place, [{"error": error, "parameters": {"problems": problems}}]):
        run = command("reload", "--config", place.config)
    assert run.returncode == 1
    assert run.stderr.startswith("ovl-linkd reload: the configuration is faulty\n")


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"error": "org.varlink.service.MethodNotFound"}, "MethodNotFound"),
        ({"parameters": {}}, _STRANGE),
    ],
)
def test_a_watch_that_can_t_go_on_says_why(place: Place, second: dict[str, Any], said: str) -> None:
    place.path.symlink_to(place.top / "t")
    with _daemon(place, [_reply(_told(place))], [second]):
        run = command("status", "--watch", "--config", place.config)
    assert run.returncode == 4
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_a_watch_misses_nothing_between_the_table_and_the_first_change(place: Place) -> None:
    """A repair in that moment was neither in the table nor among the changes."""
    place.path.symlink_to(place.top / "t")
    two = _told(place, name="two")
    repaired = _told(place, repairs=1)
    with _daemon(
        place,
        [_reply(_told(place), two)],
        [_reply(repaired, two, continues=True), _reply(two, continues=True), _reply()],
    ):
        run = command("status", "--watch", "--json", "--config", place.config)
    assert run.returncode == 3, "it has stopped"
    _, *changes = map(json.loads, run.stdout.splitlines())
    assert [(row["name"], row["repairs"]) for row in changes] == [("one", 1), ("two", 0)]


def test_reload_is_waited_for_longer_than_a_question(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten thousand links are read for seconds."""
    from ovl_linkd.commands import reload

    assert reload.TIMEOUT == 60
    monkeypatch.setattr(reload, "TIMEOUT", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place.top / "sock"))
        listener.listen(1)
        assert cli.main(["reload", "--config", str(place.config)]) == 4
    assert "does not answer within 0.05 s" in capsys.readouterr().err


# --- what was published, and the configuration has moved on ----------------------------------


@pytest.fixture
def stale(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A daemon of long ago published `old`; the configuration now names `sock`."""
    file = str(place.top / "published.json")
    published.write(Published((), str(place.top / "old"), [["/etc/x", 1, 2, 3]]), file)
    monkeypatch.setattr(published.read, "__defaults__", (file,))
    monkeypatch.setattr(config.load, "__defaults__", (None, (str(place.top),), "/none"))
    monkeypatch.setattr(config.control_socket, "__defaults__", (None, (str(place.top),), "/none"))
    return place


def test_a_stale_word_does_not_hide_the_daemon_as_configured(stale: Place) -> None:
    assert socket_path(None) == str(stale.top / "sock")
    stale.config.write_text(stale.config.read_text().replace("links", "lings"))
    assert socket_path(None) == str(stale.top / "sock"), "faulty, but this much is known"


def test_a_stale_word_counts_while_somebody_listens_there(stale: Place) -> None:
    with _daemon(stale, [], at="old"):
        assert socket_path(None) == str(stale.top / "old")


def test_a_stale_word_is_the_best_there_is_where_nothing_can_be_read(stale: Place) -> None:
    stale.config.write_text("links: [")
    assert socket_path(None) == str(stale.top / "old")


# --- the table -------------------------------------------------------------------------------


def _on_a_terminal(place: Place, columns: int, **environment: str) -> str:
    """What `status` writes to a terminal of so many columns."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    with subprocess.Popen(
        [*PYTHON, "-m", "ovl_linkd", "status", "--config", place.config],
        env=ENVIRONMENT | environment,
        cwd="/",
        stdout=slave,
        stderr=slave,
    ) as process:
        os.close(slave)
        written = b""
        try:
            while data := os.read(master, 65_536):
                written += data
        except OSError:  # EIO: the other end is closed (pty(7))
            pass
        os.close(master)
    assert process.returncode == 3
    return written.decode()


def _with_a_long_target(place: Place) -> str:
    long = "/" + "/".join(["snapshots"] * 12)
    whole = json.loads(place.config.read_text())
    whole["links"]["one"]["target"] = long
    place.config.write_text(json.dumps(whole))
    return long


def test_a_table_for_people(place: Place) -> None:
    place.path.symlink_to("/elsewhere")
    run = command("status", "--config", place.config)
    assert (run.returncode, run.stderr) == (3, "")
    lines = run.stdout.splitlines()
    assert lines[0].split() == [
        "NAME", "STATE", "PATH", "TARGET", "REPAIRS", "LAST", "REPAIR", "LAYERS",
    ]  # fmt: skip
    assert lines[1].split()[:4] == ["one", "wrong", str(place.path), str(place.top / "t")]
    assert "the symlink leads to /elsewhere" in lines[2]
    assert "the daemon is not running" in lines[-1]
    assert "\x1b" not in run.stdout


def test_a_terminal_gets_marks_colours_and_lines_that_fit(place: Place) -> None:
    long = _with_a_long_target(place)
    text = _on_a_terminal(place, 100)
    assert "✘" in text
    assert "\x1b[31m" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "\x1b" not in plain, "colours are all that steers it"
    rows = [line for line in plain.splitlines() if " one " in line]
    assert rows
    assert all(len(row) <= 100 for row in rows)
    assert "…" in rows[0]
    assert long not in rows[0]


def test_no_color_is_heard_on_a_terminal(place: Place) -> None:
    text = _on_a_terminal(place, 100, NO_COLOR="1")
    assert "\x1b" not in text
    assert "one" in text


@pytest.mark.parametrize("columns", [0, 1, 20, 1000])
def test_no_terminal_is_too_narrow(place: Place, columns: int) -> None:
    assert "Traceback" not in _on_a_terminal(place, columns)


def test_a_terminal_that_does_not_know_its_size_gets_all(place: Place) -> None:
    """As `docker run -t`, or `script`, may have it: all that is narrow about it is a guess."""
    long = _with_a_long_target(place)
    assert f"  {place.path}  {long}  " in _on_a_terminal(place, 0)


def test_a_symlink_s_text_can_t_steer_the_terminal(place: Place) -> None:
    """Whoever may put a symlink there would otherwise write on root's screen."""
    os.symlink(HOSTILE, place.path)
    for text in (
        _on_a_terminal(place, 300),
        command("status", "--config", place.config).stdout,
    ):
        assert (
            re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "").replace("\n", "").isprintable()
        )
        assert r"/x\n\x1b]0;owned\x07\x1b[2J\xff\x9b31m" in text
