"""One symlink on disk: what is seen at its path, and in what directories it is made."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovl_linkd.links import link as link_module
from ovl_linkd.links.link import (
    Link,
    cause,
    create,
    create_parent,
    held_parent,
    in_run,
    is_ours,
    is_right,
    observe,
    obstacle,
    remedy_for,
)
from ovl_linkd.links.walk import Step
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


@pytest.mark.parametrize(
    ("at_the_target", "remedy"),
    [
        ("nothing", "nothing if the program that owns the target has not run yet"),
        ("file", "name a directory as the link's target"),
        ("dangling", "name a directory as the link's target"),
    ],
)
def test_a_link_with_no_directory_behind_it_dangles(
    top: Path, at_the_target: str, remedy: str
) -> None:
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
    assert seen.remedy == remedy


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no/u", "the target does not exist: {}"),
        ("file", "the target is not a directory: {}"),
        ("file/u", "the target does not exist: {}"),
        ("loop", "the target can't be used: Too many levels of symbolic links: {}"),
    ],
)
def test_what_is_behind_a_dangling_link_is_said(top: Path, target: str, reason: str) -> None:
    (top / "file").touch()
    (top / "loop").symlink_to("loop")
    link = _link(top, target=target)
    create(link)
    assert observe(link)[:4] == ("dangling", link.target, False, reason.format(link.target))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_a_target_that_may_not_be_looked_at_is_not_said_to_be_missing(
    top: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EACCES is a directory of somebody else's, EPERM a security module, or FUSE."""
    link = _link(top)
    create(link)

    def stat_(path: str) -> os.stat_result:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "stat", stat_)
    assert observe(link) == ("ok", link.target, None, None, None)


def test_a_target_by_way_of_symlinks_is_a_directory(top: Path) -> None:
    (top / "u").symlink_to("t")
    link = _link(top, target="u")
    create(link)
    assert observe(link).state == "ok"


def test_nothing_is_missing(top: Path) -> None:
    seen = observe(_link(top))
    assert (seen.state, seen.actual, seen.target_exists) == ("missing", None, True)
    assert "ovl-linkd repair one --offline" in str(seen.remedy)


@pytest.mark.parametrize("text", ["/elsewhere", "t", "../../t"])
def test_another_text_is_wrong_even_if_it_leads_there(top: Path, text: str) -> None:
    (top / "link").symlink_to(text)
    seen = observe(_link(top))
    assert (seen.state, seen.actual) == ("wrong", text)
    assert seen.reason == f"the symlink leads to {text}"


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
    assert not is_right(_link(top))


def test_an_obstacle_that_goes_at_that_moment_was_no_symlink(top: Path) -> None:
    assert obstacle(str(top / "gone")) == f"something that is no symlink is at {top}/gone"


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("no/link", "make the directory {}"),
        ("no/where/link", "make the directory {}"),
        ("file/link", "move {} away"),
        ("dangling/link", "move {} away"),
    ],
)
def test_without_a_parent_it_waits(top: Path, path: str, remedy: str) -> None:
    (top / "file").touch()
    (top / "dangling").symlink_to("nowhere")
    seen = observe(_link(top, path))
    assert seen.state == "waiting"
    assert str(seen.remedy).startswith(remedy.format(os.path.dirname(top / path)))


def test_only_the_right_text_is_ours(top: Path) -> None:
    (top / "file").touch()
    for path in ("nothing", "no/link", "file", "file/link", "t"):
        assert not is_ours(_link(top, path))
        assert not is_right(_link(top, path))
    link = _link(top)
    (top / "link").symlink_to("/elsewhere")
    assert not is_ours(link)
    (top / "link").unlink()
    create(link)
    assert is_ours(link)


@pytest.mark.needs("root")
def test_what_can_t_be_read_is_not_taken_for_another_s(scratch: Path) -> None:
    """Whoever removes what is ours must not forget it for that."""
    link = Link("one", str(scratch / "link"), "/t")
    create(link)
    scratch.chmod(0o700)

    def tell() -> str:
        assert not is_right(link)
        with pytest.raises(PermissionError) as caught:
            is_ours(link)
        return str(caught.value)

    assert "Permission denied" in as_user(NOBODY, tell)


def test_where_we_may_not_look_nothing_is_claimed(scratch: Path) -> None:
    """A user who may not see the target must not be told that it is missing."""
    store = scratch / "store"
    (store / "t").mkdir(parents=True)
    store.chmod(0o700)
    link = Link("one", str(scratch / "link"), str(store / "t"))
    create(link)
    assert as_user(NOBODY, lambda: observe(link)) == ("ok", link.target, None, None, None)
    scratch.chmod(0o700)
    seen = as_user(NOBODY, lambda: observe(link))
    assert seen.state == "failing"
    assert seen.reason == f"Permission denied: {link.path}"
    assert str(seen.remedy).startswith("run as a user who may write")


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
def test_a_parent_is_made_in_a_directory_of_root_s_whatever_the_umask(scratch: Path) -> None:
    before = os.umask(0o077)
    try:
        link = Link("one", str(scratch / "p/link"), "/t")
        assert create_parent(link) is None
        assert os.umask(0o077) == 0o077, "it is left as it was"
    finally:
        os.umask(before)
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
def test_a_parent_is_not_made_where_others_may_write_though_a_link_is(scratch: Path) -> None:
    """allow-unsafe-parent lets us use such a directory. To make one there, and give it a mode by
    its name, let whoever swapped in a symlink have any file of root's made readable.
    """
    (scratch / "theirs").mkdir()
    (scratch / "theirs").chmod(0o777)
    link = Link("one", f"{scratch}/theirs/d/link", "/t", allow_unsafe_parent=True)
    assert "writable by everybody" in str(create_parent(link))
    assert os.listdir(scratch / "theirs") == []


@pytest.mark.needs("root")
def test_only_one_directory_is_made(scratch: Path) -> None:
    assert create_parent(Link("one", str(scratch / "p/q/link"), "/t"))
    assert os.listdir(scratch) == []


@pytest.mark.needs("root")
def test_what_was_made_meanwhile_is_used_and_what_is_no_directory_is_awaited(scratch: Path) -> None:
    (scratch / "file").touch()
    (scratch / "d").mkdir()

    def made(path: str) -> str | None:
        return create_parent(Link("one", str(scratch / path), "/t"))

    assert made("d/link") is None
    assert made("file/link") == f"File exists: {scratch}/file"
    assert made("file/p/link") == f"Not a directory: {scratch}/file/p"


@pytest.mark.needs("root")
def test_a_directory_is_held_that_can_t_be_read_and_nothing_else_is(scratch: Path) -> None:
    (scratch / "d").mkdir()
    (scratch / "d").chmod(0o711)
    (scratch / "file").touch()

    def held(path: str) -> str:
        with held_parent(Link("one", str(scratch / path), "/t")) as directory:
            return os.readlink(f"/proc/self/fd/{directory}")

    assert as_user(NOBODY, lambda: held("d/link")) == f"{scratch}/d"
    with pytest.raises(NotADirectoryError):
        held("file/link")


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
    assert in_run(Link("one", "/run/link", "/t"))


def test_where_the_way_can_t_be_walked_the_text_tells_whether_it_is_run(tmp_path: Path) -> None:
    assert in_run(Link("one", "/run/no/where/link", "/t"))
    assert not in_run(Link("one", f"{tmp_path}/no/where/run/link", "/t"))


def test_a_directory_whose_name_begins_alike_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def to_running(path: str) -> Iterator[Step]:
        yield Step("/running", os.lstat("/"), os.path.basename(path), ())

    monkeypatch.setattr(link_module, "walk", to_running)
    assert not in_run(Link("one", "/running/link", "/t"))


@pytest.mark.needs("root")
def test_errors_are_the_kernel_s(scratch: Path) -> None:
    link = Link("one", str(scratch / "link"), "/t")
    with pytest.raises(PermissionError) as caught:
        as_user(NOBODY, lambda: create(link))
    assert caught.value.errno == errno.EACCES
    assert remedy_for(caught.value, link).startswith("run as a user who may write")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "ReadWritePaths=/run/p; then restart the daemon"),
        (errno.ENOSPC, "free space or inodes on the file system of /run/p"),
        (errno.EDQUOT, "raise the quota on the file system of /run/p"),
        (errno.EACCES, "run as a user who may write /run/p"),
        (errno.EPERM, "lsattr -d /run/p"),
        (errno.EINVAL, "remove /run/p/link by hand"),
        (errno.EBUSY, "move /run/p/.link.ovl-linkd away"),
        (errno.ELOOP, "see where the symlinks on the way to /run/p/link lead"),
        (errno.EIO, "see what is wrong with /run/p"),
    ],
)
def test_each_error_has_a_remedy_that_names_the_place(number: int, remedy: str) -> None:
    error = OSError(number, os.strerror(number), "/run/p/.link.ovl-linkd")
    assert remedy in remedy_for(error, Link("one", "/run/p/link", "/t"))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "/run/p/link"),
        (("link",), "/run/p/link"),
        (("/elsewhere",), "/elsewhere"),
        (("/t", None, "/run/p/link"), "/run/p/link"),  # of symlink(2): first what it is to say
        (("/t", None, ".link.ovl-linkd"), "/run/p/.link.ovl-linkd"),
    ],
)
def test_an_error_is_one_of_a_name_in_the_link_s_directory(
    names: tuple[str | None, ...], said: str
) -> None:
    error = OSError(errno.EIO, "Input/output error", *names)
    assert cause(error, Link("one", "/run/p/link", "/t")) == f"Input/output error: {said}"
