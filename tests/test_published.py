"""The daemon's word to short-lived commands: fresh, stale, or not to be trusted."""

import json
import os
import select
import signal
from pathlib import Path

import pytest

from ovl_linkd import config_files, published
from ovl_linkd.errors import UserError
from ovl_linkd.links.link import Link
from ovl_linkd.published import Published
from tests.others import NOBODY, as_user

LINK = Link("one", "/run/one", os.fsdecode(b"/t\xff\n"), True)
WORD = Published(
    (LINK,), "/run/sock", [["/etc/x", 1, 2, 3], ["/etc/y", None, None, None]], "/f", True
)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = str(tmp_path / "published.json")
    published.write(WORD, path)
    return path


def test_what_is_written_is_read(file: str) -> None:
    assert published.read(file) == WORD
    assert os.stat(file).st_mode & 0o777 == 0o644
    assert os.listdir(os.path.dirname(file)) == ["published.json"]


def test_no_file_is_no_word(tmp_path: Path) -> None:
    assert published.read(str(tmp_path / "nothing")) is None
    assert published.read(str(tmp_path)) is None


@pytest.mark.parametrize("mode", [0o646, 0o664, 0o666])
def test_a_file_that_others_may_write_is_not_believed(file: str, mode: int) -> None:
    """It decides which socket root's commands talk to."""
    os.chmod(file, mode)
    assert published.read(file) is None


@pytest.mark.needs("root")
def test_a_file_of_another_user_is_not_believed(file: str) -> None:
    os.chown(file, NOBODY, NOBODY)
    assert published.read(file) is None


@pytest.mark.needs("root")
def test_everybody_may_read_root_s_word(scratch: Path) -> None:
    file = str(scratch / "published.json")
    published.write(WORD, file)
    assert as_user(NOBODY, lambda: published.read(file)) == WORD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "1",
        '{"schema_version": 2}',
        '{"schema_version": 1}',
        '{"schema_version": 1, "links": [1], "control_socket": "/s", "stamp": []}',
        '{"schema_version": 1, "links": null, "control_socket": "/s", "stamp": []}',
        "\xff\x00",
    ],
    ids=range(10),
)
def test_a_file_that_is_none_of_ours_is_no_word(file: str, text: str) -> None:
    """Of another version, or cut short: then the configuration is read instead."""
    with open(file, "w", encoding="latin-1") as stream:
        stream.write(text)
    assert published.read(file) is None


@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_what_a_killed_run_left_is_not_in_the_way(file: str, kind: str) -> None:
    elsewhere = Path(file).parent / "elsewhere"
    if kind == "file":
        Path(f"{file}.new").write_text("half")
    else:
        os.symlink(elsewhere, f"{file}.new")
    published.write(WORD._replace(control_socket="/s"), file)
    word = published.read(file)
    assert word
    assert word.control_socket == "/s"
    assert os.listdir(os.path.dirname(file)) == ["published.json"]


def test_a_word_that_can_t_be_replaced_is_taken_back(file: str) -> None:
    """The old one would send every command to where nobody listens any more."""
    os.mkdir(f"{file}.new")
    with pytest.raises(FileExistsError):
        published.write(WORD, file)
    assert not os.path.exists(file)
    assert os.path.isdir(f"{file}.new"), "not ours, left alone"


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    """RuntimeDirectory= was cleaned away under the running daemon."""
    file = str(tmp_path / "d/published.json")
    published.write(WORD, file)
    assert published.read(file) == WORD
    assert os.stat(tmp_path / "d").st_mode & 0o777 == 0o755


def test_keys_of_a_later_version_are_passed_over(file: str) -> None:
    value = json.loads(Path(file).read_text()) | {"pond": {"path": "/run/f"}}
    Path(file).write_text(json.dumps(value))
    assert published.read(file) == WORD


def test_a_fifo_in_its_place_holds_nobody_up(tmp_path: Path) -> None:
    """open(2) of a FIFO waits for a writer, for good."""
    path = tmp_path / "published.json"
    os.mkfifo(path)
    child = os.fork()
    if child == 0:
        os._exit(0 if published.read(str(path)) is None else 1)
    descriptor = os.pidfd_open(child)
    ended = select.select([descriptor], [], [], 5)[0]
    os.close(descriptor)
    if not ended:
        os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def default_place(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The standard places, moved to a directory of the test's own."""
    root = scratch / "etc"
    root.mkdir()
    monkeypatch.setattr(published.read, "__defaults__", (str(scratch / "published.json"),))
    kept = config_files.stamp
    monkeypatch.setattr(config_files, "stamp", lambda file: kept(file, (str(root),)))
    return root


@pytest.mark.needs("root")
def test_a_fresh_word_saves_reading_the_configuration(default_place: Path, scratch: Path) -> None:
    word = WORD._replace(stamp=config_files.stamp(None))
    published.write(word, str(scratch / "published.json"))
    assert published.known(None) == word

    (default_place / "config.yaml").write_text("links: {}\n")
    assert published.known(None) != word, "stale: the configuration has changed"


@pytest.mark.needs("root")
def test_a_named_configuration_is_what_counts(default_place: Path, scratch: Path) -> None:
    published.write(WORD._replace(stamp=config_files.stamp(None)), str(scratch / "published.json"))
    file = scratch / "my.yaml"
    file.write_text("links: {two: {path: /run/two, target: /t}}\ncontrol-socket: /run/two.sock\n")
    word = published.known(str(file))
    assert [link.name for link in word.links] == ["two"]
    assert word.control_socket == "/run/two.sock"
    assert default_place.exists()


def test_a_faulty_configuration_is_a_user_s_error_with_all_its_problems(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("lings: {}\nresync-interval: soon\n")
    with pytest.raises(UserError) as caught:
        published.known(str(file))
    assert f"{file}:1:" in caught.value.what
    assert f"{file}:2:" in caught.value.what
    assert caught.value.code == 1
