"""One symlink on disk: what is seen, and that making it right never costs anybody a file."""

import errno
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ovl_linkd.links import link as links
from ovl_linkd.links.link import (
    Displaced,
    Link,
    create,
    create_parent,
    exchange,
    in_run,
    is_right,
    observe,
    sweep,
)
from tests.daemon.world import NOBODY, RENAME_EXCHANGE, as_user, renameat2


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "t").mkdir()
    return tmp_path.resolve()


def _link(top: Path, path: str = "link", target: str = "t") -> Link:
    return Link("one", str(top / path), str(top / target), allow_unsafe_parent=True)


def _spare(link: Link) -> Path:
    return Path(os.path.dirname(link.path), f".{os.path.basename(link.path)}.ovl-linkd")


# --- what is seen ----------------------------------------------------------------------------


def test_the_right_link_is_ok(top: Path) -> None:
    link = _link(top)
    create(link)
    assert observe(link) == ("ok", link.target, True, None, None)
    assert is_right(link)


@pytest.mark.parametrize("at_the_target", ["nothing", "file", "dangling"])
def test_a_link_with_no_directory_behind_it_dangles(top: Path, at_the_target: str) -> None:
    link = _link(top, target="u")
    create(link)
    if at_the_target == "file":
        (top / "u").touch()
    elif at_the_target == "dangling":
        (top / "u").symlink_to("nowhere")
    seen = observe(link)
    assert (seen.state, seen.actual, seen.target_exists) == ("dangling", link.target, False)
    assert seen.reason
    assert link.target in seen.reason


def test_a_target_by_way_of_symlinks_is_a_directory(top: Path) -> None:
    (top / "u").symlink_to("t")
    link = _link(top, target="u")
    create(link)
    assert observe(link).state == "ok"


def test_nothing_is_missing(top: Path) -> None:
    seen = observe(_link(top))
    assert (seen.state, seen.actual, seen.target_exists) == ("missing", None, True)


@pytest.mark.parametrize("text", ["/elsewhere", "t", "../../t"])
def test_another_text_is_wrong_even_if_it_leads_there(top: Path, text: str) -> None:
    (top / "link").symlink_to(text)
    seen = observe(_link(top))
    assert (seen.state, seen.actual) == ("wrong", text)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.touch(), "a file"),
        (lambda path: path.mkdir(), "a directory"),
        (os.mkfifo, "a special file"),
        (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "a socket"),
    ],
)
def test_whatever_else_is_there_blocks(top: Path, make: Callable[[Path], None], what: str) -> None:
    make(top / "link")
    seen = observe(_link(top))
    assert (seen.state, seen.actual) == ("blocked", None)
    assert what in str(seen.reason)
    assert seen.remedy


@pytest.mark.parametrize("path", ["no/link", "no/where/link", "file/link"])
def test_without_a_parent_it_waits(top: Path, path: str) -> None:
    (top / "file").touch()
    assert observe(_link(top, path)).state == "waiting"


def test_where_we_may_not_look_nothing_is_claimed(scratch: Path) -> None:
    """A user who may not see the target must not be told that it is missing."""
    store = scratch / "store"
    (store / "t").mkdir(parents=True)
    store.chmod(0o700)
    link = Link("one", str(scratch / "link"), str(store / "t"))
    create(link)
    assert as_user(NOBODY, lambda: observe(link)) == ("ok", link.target, None, None, None)
    scratch.chmod(0o700)
    assert as_user(NOBODY, lambda: observe(link).state) == "failing"


def test_names_and_targets_are_bytes(top: Path) -> None:
    link = _link(top, os.fsdecode(b"\xff\n\x1b"), os.fsdecode(b"\xfe"))
    os.mkdir(link.target)
    create(link)
    assert observe(link).state == "ok"
    os.unlink(link.path)
    os.symlink(b"/\xfd", link.path)
    assert exchange(link) == os.fsdecode(b"/\xfd")
    assert is_right(link)


# --- the exchange ----------------------------------------------------------------------------


def test_an_exchange_leaves_the_right_link_and_nothing_else(top: Path) -> None:
    link = _link(top)
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
    with pytest.raises(FileExistsError):
        exchange(link)
    assert os.lstat(link.path).st_ino == before
    assert sorted(os.listdir(top)) == ["link", "t"]


def test_an_exchange_with_nothing_makes_nothing(top: Path) -> None:
    with pytest.raises(FileNotFoundError):
        exchange(_link(top))
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


_CALLS = ("symlink", "unlink", "readlink", "lstat", "_renameat2")


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

        for name in _CALLS:
            module = links if name.startswith("_") else os
            setattr(module, name, counted(getattr(module, name)))
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
    deadline = time.monotonic() + 8
    while (put_back < 30 or exchanged < 1000) and time.monotonic() < deadline:
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


# --- the parent ------------------------------------------------------------------------------


@pytest.mark.needs("root")
def test_a_parent_is_made_in_a_directory_of_root_s(scratch: Path) -> None:
    old = os.umask(0o077)
    try:
        link = Link("one", str(scratch / "p/link"), "/t")
        assert create_parent(link) is None
    finally:
        os.umask(old)
    assert (scratch / "p").stat().st_mode & 0o7777 == 0o755


@pytest.mark.needs("root")
@pytest.mark.parametrize(("uid", "mode"), [(0, 0o1777), (0, 0o777), (NOBODY, 0o755)])
def test_a_parent_is_not_made_where_others_write(scratch: Path, uid: int, mode: int) -> None:
    os.chown(scratch, uid, 0)
    scratch.chmod(mode)
    link = Link("one", str(scratch / "p/link"), "/t")
    assert create_parent(link)
    assert os.listdir(scratch) == []


@pytest.mark.needs("root")
def test_only_one_directory_is_made(scratch: Path) -> None:
    assert create_parent(Link("one", str(scratch / "p/q/link"), "/t"))
    assert os.listdir(scratch) == []


def test_a_parent_that_is_a_dangling_symlink_is_not_made_through_it(top: Path) -> None:
    (top / "p").symlink_to("nowhere")
    assert create_parent(_link(top, "p/link"))
    assert not (top / "nowhere").exists()


@pytest.mark.needs("root")
def test_run_is_where_the_path_really_lies(scratch: Path, tmp_path: Path) -> None:
    """/var/run is /run by another name; and a symlink in /run may lead out of it."""
    (tmp_path / "to-run").symlink_to(scratch)
    (scratch / "out").symlink_to(tmp_path)
    assert in_run(Link("one", str(scratch / "link"), "/t"))
    assert in_run(Link("one", str(tmp_path / "to-run/link"), "/t"))
    assert not in_run(Link("one", str(scratch / "out/link"), "/t"))
    assert not in_run(Link("one", "/running/link", "/t"))


@pytest.mark.needs("root")
def test_errors_are_the_kernel_s(scratch: Path) -> None:
    link = Link("one", str(scratch / "link"), "/t")
    with pytest.raises(PermissionError) as caught:
        as_user(NOBODY, lambda: create(link))
    assert caught.value.errno == errno.EACCES
    assert links.remedy_for(caught.value, link).startswith("run as a user who may write")


def test_a_parent_is_not_made_where_others_may_write(scratch: Path) -> None:
    """allow-unsafe-parent lets us use such a directory. To make one there, and give it a mode by
    its name, let whoever swapped in a symlink have any file of root's made readable.
    """
    (scratch / "theirs").mkdir()
    (scratch / "theirs").chmod(0o777)
    link = Link("one", f"{scratch}/theirs/d/link", "/t", allow_unsafe_parent=True)
    assert "writable by everybody" in str(create_parent(link))
    assert os.listdir(scratch / "theirs") == []


def test_a_parent_has_its_mode_whatever_the_umask(scratch: Path) -> None:
    before = os.umask(0o077)
    try:
        assert create_parent(Link("one", f"{scratch}/d/link", "/t")) is None
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert (scratch / "d").stat().st_mode & 0o7777 == 0o755


def test_two_long_names_have_two_temporary_names(top: Path) -> None:
    """Cut off at 255 bytes they would be one, and one link would sweep away the other's."""
    for name in ("a" * 254 + "1", "a" * 254 + "2"):
        (top / name).symlink_to("/elsewhere")
        link = Link("one", str(top / name), str(top / "t"), allow_unsafe_parent=True)
        assert exchange(link) == "/elsewhere"
    names = {links.spare_path(Link("x", f"{top}/{'a' * 254}{n}", "/t")) for n in "12"}
    assert len(names) == 2
