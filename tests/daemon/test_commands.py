"""The commands beside a running daemon: exit codes, JSON and lines as others rely on them."""

import json
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pytest

from tests.daemon.world import ENVIRONMENT, PYTHON, Daemon, command
from tests.others import NOBODY
from tests.waiting import PATIENCE

pytestmark = pytest.mark.needs("root")


@pytest.fixture(scope="module")
def running(shared: Callable[[], Daemon]) -> Daemon:
    """Keeps `one` and `two` -> t."""
    daemon = shared()
    top = daemon.directory
    (top / "t").mkdir()
    daemon.write({name: (top / name, top / "t") for name in ("one", "two")})
    daemon.start()
    return daemon


@pytest.fixture
def kept(running: Daemon) -> Iterator[Daemon]:
    """`running`, and its links are as they were afterwards."""
    yield running
    for name in ("one", "two"):
        path = running.directory / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif not path.is_symlink():
            path.unlink(missing_ok=True)
        running.until_state(name, "ok")


def _ovl(daemon: Daemon, *words: str) -> "subprocess.CompletedProcess[str]":
    run = command(*words, "--config", daemon.config)
    assert "Traceback" not in run.stderr
    return run


def _status(daemon: Daemon, *words: str) -> tuple[int, dict[str, Any]]:
    run = _ovl(daemon, "status", "--json", *words)
    assert run.stderr == ""
    return run.returncode, json.loads(run.stdout)


def _block(daemon: Daemon, name: str) -> Path:
    """Put a directory in the place of the link NAME."""
    path = daemon.directory / name
    with daemon.frozen():
        path.unlink()
        path.mkdir()
    daemon.until_state(name, "blocked")
    return path


# --- status ----------------------------------------------------------------------------------


def test_the_json_of_status_is_the_contract(kept: Daemon) -> None:
    with kept.repairing("one", "missing"):
        (kept.directory / "one").unlink()
    code, state = _status(kept)
    assert code == 0
    assert state.keys() == {"schema_version", "daemon", "links", "farm", "exec"}
    assert state["schema_version"] == 1
    daemon = state["daemon"]
    types = {"running": bool, "pid": int, "version": str, "since": str}
    assert {key: type(daemon[key]) for key in types} == types
    assert daemon["pid"] == kept.pid
    assert daemon["config_changed_on_disk"] is False
    link = state["links"][0]
    assert link.keys() >= {
        "name", "path", "target", "state", "actual", "target_exists", "since", "reason", "remedy",
        "next_try", "repairs", "last_repair", "layers", "guard", "guarded",
    }  # fmt: skip
    assert type(link["repairs"]) is int
    assert link["last_repair"].keys() == {"at", "found", "took_us"}
    assert link["last_repair"]["found"] == "missing"
    assert type(link["last_repair"]["took_us"]) is int
    assert 0 < link["last_repair"]["took_us"] < 10_000_000
    for moment in (daemon["since"], link["since"], link["last_repair"]["at"]):
        assert moment.endswith("Z")
        datetime.fromisoformat(moment)
    assert {key: type(link["layers"][key]) for key in link["layers"]} == {
        "plain": int,
        "short": int,
    }


def test_one_link_that_isn_t_ok_is_exit_1(kept: Daemon) -> None:
    _block(kept, "one")
    code, state = _status(kept)
    assert code == 1
    assert [link["state"] for link in state["links"]] == ["blocked", "ok"]
    assert _status(kept, "two")[0] == 0, "asked for the other one alone, all is well"
    run = _ovl(kept, "status")
    assert run.returncode == 1
    assert "blocked: a directory is at" in run.stdout
    assert "to do: " in run.stdout


def test_no_links_are_all_ok(daemon: Daemon) -> None:
    daemon.write({})
    daemon.start()
    said = {"running": True, **daemon.call("Status")["daemon"]}
    state = {"schema_version": 1, "daemon": said, "links": [], "farm": None, "exec": []}
    assert _status(daemon) == (0, state)
    assert _ovl(daemon, "status").returncode == 0


def test_what_is_on_disk_counts_and_not_what_the_daemon_last_saw(kept: Daemon) -> None:
    """A stopped daemon (SIGSTOP, a debugger, a thrashing machine) takes calls and answers none."""
    with kept.frozen(), ThreadPoolExecutor() as pool:
        (kept.directory / "one").unlink()
        # Each waits five seconds for an answer: both at once.
        asked = pool.submit(_ovl, kept, "repair")
        run = _ovl(kept, "status", "--json")
        repair = asked.result()
    assert run.returncode == 4, "4 before 3 before 1"
    state = json.loads(run.stdout)
    assert state["daemon"]["running"] is True
    assert "does not answer" in state["daemon"]["trouble"]
    assert [link["state"] for link in state["links"]] == ["missing", "ok"]
    assert (repair.returncode, repair.stdout) == (4, "")
    assert "does not answer" in repair.stderr
    assert "  hint: " in repair.stderr


def test_a_change_of_the_configuration_on_disk_is_shown(kept: Daemon) -> None:
    text = kept.config.read_text()
    try:
        kept.config.write_text(text + "\n")
        code, state = _status(kept)
        assert (code, state["daemon"]["config_changed_on_disk"]) == (0, True)
        assert "ovl-linkd reload" in _ovl(kept, "status").stdout
    finally:
        assert _ovl(kept, "reload").returncode == 0


# --- status --watch --------------------------------------------------------------------------


class Lines:
    """The lines that a program writes, as they come."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._buffer = b""

    def next(self) -> str:
        """The next one; fails the test if it doesn't come."""
        while b"\n" not in self._buffer:
            assert select.select([self._stream], [], [], PATIENCE)[0], "no line came"
            data = os.read(self._stream.fileno(), 65_536)
            assert data, "it has ended"
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode()


@contextmanager
def _watching(daemon: Daemon, *words: str) -> Iterator[tuple["subprocess.Popen[bytes]", Lines]]:
    with subprocess.Popen(
        [*PYTHON, "-m", "ovl_linkd", "status", "--watch", "--config", daemon.config, *words],
        env=ENVIRONMENT,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        try:
            yield process, Lines(process.stdout)
        finally:
            process.kill()


def test_watch_prints_changes_as_they_happen(daemon: Daemon) -> None:
    top = daemon.directory
    (top / "t").mkdir()
    daemon.write({name: (top / name, top / "t") for name in ("one", "two")})
    daemon.start()
    with _watching(daemon, "--json", "one") as (process, lines):
        first = json.loads(lines.next())
        assert [link["name"] for link in first["links"]] == ["one"]
        # The table is printed before Monitor is called: even so the repair is told of. A look
        # at the disk just before it may be told of, too.
        with daemon.repairing("one", "missing"):
            (top / "one").unlink()
        while (said := json.loads(lines.next()))["state"] == "missing":
            pass
        assert (said["name"], said["state"], said["repairs"]) == ("one", "ok", 2)
        assert said["last_repair"]["found"] == "missing"
        with daemon.repairing("two", "missing"):
            (top / "two").unlink()
        _block(daemon, "one")
        said = json.loads(lines.next())
        assert (said["name"], said["state"]) == ("one", "blocked"), "of one alone"
        daemon.stop()
        assert process.wait(PATIENCE) == 3
        assert process.stderr
        assert b"the daemon has stopped" in process.stderr.read()


def test_watch_for_people_is_a_line_a_change(kept: Daemon) -> None:
    with _watching(kept) as (process, lines):
        while lines.next():  # the table, up to the empty line before the daemon's
            pass
        assert "pid" in lines.next()
        with kept.repairing("one", "missing"):
            (kept.directory / "one").unlink()
        while " one missing" in (line := lines.next()):
            pass
        assert "one ok: missing " in line
        assert "\x1b" not in line
        assert process.poll() is None


# --- repair and reload -----------------------------------------------------------------------


def test_repair_says_how_each_link_is(kept: Daemon) -> None:
    run = _ovl(kept, "repair")
    assert (run.returncode, run.stderr) == (0, "")
    assert [line.split(": ")[:2] for line in run.stdout.splitlines()] == [
        ["one", "ok"], ["two", "ok"],
    ]  # fmt: skip
    _block(kept, "two")
    run = _ovl(kept, "repair")
    assert run.returncode == 1
    assert "two: blocked" in run.stdout
    assert _ovl(kept, "repair", "one").returncode == 0


def test_repair_of_an_unknown_link_is_a_usage_error(kept: Daemon) -> None:
    for words in (["repair", "three"], ["status", "three"]):
        run = _ovl(kept, *words)
        assert run.returncode == 2
        assert run.stdout == ""
        assert "no link is named three" in run.stderr


def test_adopt_takes_what_was_there_first(daemon: Daemon, tmp_path: Path) -> None:
    """Outside /run a foreign symlink is blocked until somebody says that it is meant."""
    os.chmod(tmp_path, 0o755)
    target, path = daemon.directory / "t", tmp_path / "link"
    target.mkdir()
    path.symlink_to("/usr/bin")
    daemon.write_raw(
        json.dumps(
            {
                "control-socket": daemon.socket,
                "links": {
                    "one": {"path": str(path), "target": str(target), "allow-unsafe-parent": True}
                },
            }
        )
    )
    daemon.start()
    code, state = _status(daemon)
    assert (code, state["links"][0]["state"]) == (1, "blocked")
    assert state["links"][0]["remedy"] == "ovl-linkd repair one --adopt"
    assert _ovl(daemon, "repair", "one").returncode == 1
    assert os.readlink(path) == "/usr/bin"
    assert _ovl(daemon, "repair", "one", "--adopt").returncode == 0
    assert os.readlink(path) == str(target)


def test_reload_waits_for_the_outcome(kept: Daemon) -> None:
    good = kept.config.read_text()
    run = _ovl(kept, "reload")
    assert (run.returncode, run.stdout, run.stderr) == (0, "loaded, 2 links kept\n", "")
    kept.config.write_text(good.replace("links", "lings"))
    try:
        # The configuration is broken: its daemon is found all the same by who knows the socket.
        run = _ovl(kept, "reload")
    finally:
        kept.config.write_text(good)
    assert run.returncode == 1
    assert run.stdout == ""
    assert str(kept.config) in run.stderr
    assert "goes on with the configuration it has" in run.stderr
    assert [link["state"] for link in kept.call("Status")["links"]] == ["ok", "ok"]


def test_a_faulty_file_leaves_its_daemon_within_reach(kept: Daemon) -> None:
    good = kept.config.read_text()
    kept.config.write_text(good.replace("links", "lings"))
    try:
        codes = [_ovl(kept, name).returncode for name in ("status", "repair", "reload")]
    finally:
        kept.config.write_text(good)
    assert codes == [0, 0, 1]


def test_reload_says_what_is_wrong_as_check_does(kept: Daemon) -> None:
    """A file that others may write is faulty as a whole: at no line."""
    kept.config.chmod(0o666)
    try:
        (said,) = [line for line in _ovl(kept, "check").stderr.splitlines() if "everybody" in line]
        assert f"ovl-linkd reload: {said}" in _ovl(kept, "reload").stderr.splitlines()
    finally:
        kept.config.chmod(0o644)


# --- the default configuration and what the daemon publishes ---------------------------------


@pytest.fixture
def drop_in() -> Iterator[Path]:
    """A drop-in of the standard places, which nothing else uses in the tests' own /run."""
    top = Path("/run/ovl-linkd")
    (top / "config.yaml.d").mkdir(parents=True)
    yield top / "config.yaml.d/50-test.yaml"
    shutil.rmtree(top)


def test_the_daemon_of_the_standard_places_publishes_itself(drop_in: Path, daemon: Daemon) -> None:
    """Its commands then need neither YAML nor the configuration."""
    top = daemon.directory
    (top / "t").mkdir()
    links = {"ctrdl": None, "one": {"path": str(top / "one"), "target": str(top / "t")}}
    drop_in.write_text(json.dumps({"links": links}))
    daemon.socket = "/run/ovl-linkd/control.sock"
    daemon.start_by_default()
    run = command("status", "--json")
    assert (run.returncode, run.stderr) == (0, "")
    assert [link["name"] for link in json.loads(run.stdout)["links"]] == ["one"]
    published = Path("/run/ovl-linkd/published.json")
    assert published.stat().st_mode & 0o777 == 0o644
    assert [link["name"] for link in json.loads(published.read_text())["links"]] == ["one"]

    drop_in.write_text("links: [\n")
    run = command("reload")
    assert run.returncode == 1
    assert str(drop_in) in run.stderr
    assert "goes on with the configuration it has" in run.stderr
    run = command("status", "--json")
    assert run.returncode == 0, "what was published counts though the configuration is broken now"
    assert json.loads(run.stdout)["daemon"]["config_changed_on_disk"] is True


def test_a_reload_takes_nothing_from_files_that_others_may_write(
    drop_in: Path, daemon: Daemon
) -> None:
    """Nor from those that they may put in the place of one. What was kept is kept."""
    top = daemon.directory
    (top / "t").mkdir()
    links: dict[str, object] = {"ctrdl": None, "one": {"path": f"{top}/one", "target": f"{top}/t"}}
    drop_in.write_text(json.dumps({"links": links}))
    daemon.socket = "/run/ovl-linkd/control.sock"
    daemon.start_by_default()
    (top / "theirs").mkdir()
    (top / "theirs/more.yaml").write_text(json.dumps({"links": {"one": None}}))
    os.chown(top / "theirs", NOBODY, NOBODY)
    more, drop_ins = drop_in.with_name("60-more.yaml"), drop_in.parent
    for place, mode, owner, said in (
        (more, 0o666, 0, f"the file is writable by everybody, chmod o-w {more}"),
        (more, 0o644, NOBODY, f"the file belongs to user {NOBODY}, chown root {more}"),
        (None, 0, 0, f"its directory {top}/theirs belongs to user {NOBODY}"),
        (drop_ins.parent, 0o777, 0, f"its directory {drop_ins.parent} is writable by everybody"),
        (drop_ins, 0o777, 0, f"its directory {drop_ins} is writable by everybody"),
    ):
        if place:
            more.write_text(json.dumps({"links": {"one": None}}))
            place.chmod(mode)
            os.chown(place, owner, 0)
        else:
            more.symlink_to(top / "theirs/more.yaml")
        run = command("reload")
        assert run.returncode == 1
        assert f"{more}: {said}" in run.stderr
        with daemon.repairing("one", "missing"):
            (top / "one").unlink()
        drop_ins.parent.chmod(0o755)
        if place is not drop_ins:
            more.unlink()
    drop_ins.chmod(0o755)
    assert command("reload").returncode == 0
    assert daemon.call("Status")["links"] == []
