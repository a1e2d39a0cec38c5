"""One symlink on disk: what is seen at its path, and in what directories it is made."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ovl_linkd.links.link import (
    Link,
    create,
    create_parent,
    in_run,
    is_right,
    observe,
    remedy_for,
)
from tests.others import NOBODY, as_user


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "t").mkdir()
    return tmp_path.resolve()


def _link(top: Path, path: str = "link", target: str = "t") -> Link:
    return Link("one", str(top / path), str(top / target), allow_unsafe_parent=True)


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
    assert observe(link).actual == os.fsdecode(b"/\xfd")


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
    assert remedy_for(caught.value, link).startswith("run as a user who may write")


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
