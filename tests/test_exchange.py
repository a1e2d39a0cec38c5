"""One symlink in the place of another: putting it there never costs anybody a file."""

import errno
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ovl_linkd.links.exchange import Displaced, _Place, exchange, spare_path, sweep
from ovl_linkd.links.link import Link, create, is_right
from tests.daemon.world import RENAME_EXCHANGE, renameat2


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "t").mkdir()
    return tmp_path.resolve()


def _link(top: Path, name: str = "link", unsafe: bool = False) -> Link:
    return Link("one", str(top / name), str(top / "t"), allow_unsafe_parent=unsafe)


def _spare(link: Link) -> Path:
    return Path(spare_path(link))


@pytest.mark.parametrize("unsafe", [False, True])
def test_an_exchange_leaves_the_right_link_and_nothing_else(top: Path, unsafe: bool) -> None:
    link = _link(top, unsafe=unsafe)
    (top / "link").symlink_to("/elsewhere")
    assert exchange(link) == "/elsewhere"
    assert is_right(link)
    assert sorted(os.listdir(top)) == ["link", "t"]


@pytest.mark.parametrize("length", [243, 244, 245, 246, 255])
def test_the_longest_name_can_be_exchanged(top: Path, length: int) -> None:
    """The temporary name is longer than the name, and 255 bytes are all there is."""
    link = _link(top, os.fsdecode(b"\xc3\xa4" * (length // 2) + b"x" * (length % 2)))
    os.symlink("/elsewhere", link.path)
    assert exchange(link) == "/elsewhere"
    assert is_right(link)
    assert len(os.listdir(top)) == 2


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_came_out_and_is_no_symlink_is_put_back(top: Path, kind: str) -> None:
    """rename(2) over the path would have destroyed the file, somebody's data."""
    link = _link(top)
    if kind == "file":
        (top / "link").write_text("precious")
    else:
        (top / "link").mkdir()
        (top / "link/file").write_text("precious")
    before = os.lstat(link.path).st_ino
    with pytest.raises(FileExistsError) as caught:
        exchange(link)
    assert caught.value.filename == link.path
    assert os.lstat(link.path).st_ino == before
    assert sorted(os.listdir(top)) == ["link", "t"]


def test_an_exchange_with_nothing_makes_nothing(top: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        exchange(_link(top))
    assert caught.value.filename == str(top / "link")
    assert os.listdir(top) == ["t"]


def test_a_file_under_the_temporary_name_is_not_ours_to_remove(top: Path) -> None:
    link = _link(top)
    (top / "link").symlink_to("/elsewhere")
    _spare(link).write_text("precious")
    with pytest.raises(Displaced) as caught:
        exchange(link)
    assert caught.value.filename == str(_spare(link))
    assert _spare(link).read_text() == "precious"
    assert os.readlink(link.path) == "/elsewhere"


def _before_call(number: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ACT done right before the NUMBERth time that two names are exchanged."""
    rename, calls = _Place.rename_spare, []

    def rename_spare(place: _Place, flag: int) -> None:
        calls.append(flag)
        if len(calls) == number:
            act()
        rename(place, flag)

    monkeypatch.setattr(_Place, "rename_spare", rename_spare)


def test_a_file_goes_back_though_our_link_was_removed_meanwhile(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = _link(top)
    (top / "link").write_text("precious")
    _before_call(2, (top / "link").unlink, monkeypatch)
    with pytest.raises(FileExistsError):
        exchange(link)
    assert (top / "link").read_text() == "precious"
    assert sorted(os.listdir(top)) == ["link", "t"]


def test_of_two_files_the_newer_one_gets_the_path_and_the_other_is_told_of(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_another() -> None:
        (top / "link").unlink()
        (top / "link").write_text("newer")

    link = _link(top)
    (top / "link").write_text("older")
    _before_call(2, put_another, monkeypatch)
    with pytest.raises(Displaced, match="files keep being put at") as caught:
        exchange(link)
    assert caught.value.filename == str(_spare(link))
    assert ((top / "link").read_text(), _spare(link).read_text()) == ("newer", "older")


def test_what_came_out_and_was_gone_at_once_is_no_error(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(place: _Place, name: str) -> str | None:
        place.remove_spare()
        raise FileNotFoundError(name)

    link = _link(top)
    (top / "link").symlink_to("/elsewhere")
    monkeypatch.setattr(_Place, "text", gone)
    assert exchange(link) == ""
    assert is_right(link)


def test_what_can_t_be_read_is_not_taken_for_a_file(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def readlink(path: str, dir_fd: int) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path, dir_fd)

    link = _link(top)
    (top / "link").symlink_to("/elsewhere")
    monkeypatch.setattr(os, "readlink", readlink)
    with pytest.raises(OSError, match="Input/output error"):
        exchange(link)


@pytest.mark.needs("root")
@pytest.mark.parametrize(("mode", "swept"), [(0o755, True), (0o777, False)])
def test_what_another_user_may_have_put_there_is_left_alone(
    scratch: Path, mode: int, swept: bool
) -> None:
    """A directory of his under the temporary name would come to the link's path by a sweep."""
    (scratch / "t").mkdir()
    scratch.chmod(mode)
    link = _link(scratch, unsafe=True)
    _spare(link).mkdir()
    os.chown(_spare(link), 1, 1)
    sweep(link)
    assert os.path.isdir(link.path) == swept
    assert _spare(link).exists() != swept


def test_a_temporary_name_tells_whose_it_is(top: Path) -> None:
    assert spare_path(_link(top, "a-rather-long-name")) == f"{top}/.a-rather-long-name.ovl-linkd"
    assert spare_path(_link(top, "a" * 244)) == f"{top}/.{'a' * 244}.ovl-linkd"


_CALLS = [
    *((os, name) for name in ("open", "symlink", "unlink", "readlink", "lstat")),
    (_Place, "rename_spare"),
]


def _die_at(call: int, act: Callable[[], object]) -> bool:
    """Do ACT in a child that is killed before its system call number CALL; whether it got there."""
    child = os.fork()
    if child == 0:
        left = call

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def wrapper(*args: object, **kwargs: object) -> object:
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return function(*args, **kwargs)

            return wrapper

        for where, name in _CALLS:
            setattr(where, name, counted(getattr(where, name)))
        try:
            act()
        except OSError:
            pass
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("found", ["symlink", "file", "directory"])
@pytest.mark.parametrize("first", [exchange, sweep], ids=["exchange", "sweep"])
def test_a_kill_between_any_two_system_calls_is_healed(
    tmp_path: Path, found: str, first: Callable[[Link], object]
) -> None:
    """kill -9, or a power cut: what the next start finds is tidied up, and no file is lost."""
    for call in range(20):
        top = tmp_path / str(call)
        (top / "t").mkdir(parents=True)
        link = _link(top)
        if found == "symlink":
            os.symlink("/elsewhere", link.path)
        elif found == "file":
            Path(link.path).write_text("precious")
        else:
            os.mkdir(link.path)
        if first is sweep:
            # sweep() itself is killed: after an exchange that was killed in its worst moment.
            os.rename(link.path, _spare(link))
            create(link)
        died = _die_at(call, lambda link=link: first(link))  # type: ignore[misc]

        sweep(link)

        assert not os.path.lexists(_spare(link)), f"left over after a kill at call {call}"
        kind = stat.S_IFMT(os.lstat(link.path).st_mode)
        wanted = {"symlink": stat.S_IFLNK, "file": stat.S_IFREG, "directory": stat.S_IFDIR}
        assert kind == wanted[found]
        if found == "file":
            assert Path(link.path).read_text() == "precious"
        if not died:
            assert call >= (3 if first is exchange or found != "symlink" else 2)
            return
    pytest.fail("twenty system calls were not the end")


def test_a_file_that_was_exchanged_out_is_put_back_where_the_path_is_free(top: Path) -> None:
    """Killed in the worst moment, and then somebody removed the link: the file is still hidden."""
    link = _link(top)
    _spare(link).write_text("precious")
    sweep(link)
    assert Path(link.path).read_text() == "precious"


def test_the_temporary_name_of_somebody_else_s_symlink_is_freed(top: Path) -> None:
    link = _link(top)
    _spare(link).symlink_to("/elsewhere")
    (top / "link").symlink_to("/elsewhere")
    exchange(link)
    assert sorted(os.listdir(top)) == ["link", "t"]


# --- the hostile loop ------------------------------------------------------------------------


def _rival(top: Path, go_on: Callable[[], bool]) -> int:
    """Put files, each with a text of its own, and wrong symlinks onto the path in turn.

    Only ever in exchange for what is there, and a file that comes out is kept: whatever is gone in
    the end, somebody else destroyed. Returns how many files there were.
    """
    path, away, mine = top / "link", top / "away", top / "mine"
    number = 0
    while go_on():
        if number % 2:
            mine.symlink_to("/elsewhere")
        else:
            mine.write_text(f"file {number}")
        while True:
            try:
                renameat2(mine, path, RENAME_EXCHANGE)
                break
            except FileNotFoundError:
                continue  # for a moment nothing is there: the link was just moved back
        if mine.is_symlink():
            mine.unlink()
        else:
            mine.rename(away / str(number))
        number += 1
    return (number + 1) // 2


def test_no_file_is_lost_while_the_path_is_fought_over(top: Path) -> None:
    """Plain rename(2) over the path destroyed 6,105 of 6,147 files put there in such a race."""
    link = _link(top)
    create(link)
    (top / "away").mkdir()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.set_blocking(reading, False)

        def go_on() -> bool:
            try:
                return os.read(reading, 1) != b""
            except BlockingIOError:
                return True

        try:
            files = _rival(top, go_on)
            (top / "files").write_text(str(files))
        finally:
            os._exit(0)
    os.close(reading)
    exchanged = put_back = displaced = 0
    began = time.monotonic()
    # Many within some seconds, or fewer; but some, however long a busy machine takes for them.
    while put_back < 30 or exchanged < 1000:
        late = time.monotonic() - began
        if late > 90 or (late > 8 and put_back > 0 and exchanged > 100):
            break
        try:
            exchanged += bool(not is_right(link) and exchange(link))
        except FileExistsError:
            put_back += 1
        except Displaced:
            # A person is told. Here the person clears up, so that the race can go on.
            displaced += 1
            if not _spare(link).is_symlink():
                _spare(link).rename(top / f"away/displaced{displaced}")
        except FileNotFoundError:
            pass
    os.close(writing)
    os.waitpid(child, 0)

    places = (*(top / "away").iterdir(), *top.iterdir())
    texts = {place.read_text() for place in places if place.is_file() and not place.is_symlink()}
    files = int((top / "files").read_text())
    missing = {f"file {2 * number}" for number in range(files)} - texts
    assert not missing, f"{len(missing)} of {files} files were destroyed"
    assert exchanged > 100, "the race was never run"
    assert put_back > 0, "no file was ever put in the way of an exchange"


def test_two_long_names_have_two_temporary_names(top: Path) -> None:
    """Cut off at 255 bytes they would be one, and one link would sweep away the other's."""
    one, two = (_link(top, "a" * 254 + end) for end in "12")
    assert spare_path(one) != spare_path(two)
    for link in (one, two):
        os.symlink("/elsewhere", link.path)
        assert exchange(link) == "/elsewhere"
