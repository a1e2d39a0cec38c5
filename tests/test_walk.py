"""The way to a path, and who decides where it leads."""

import errno
import os
from pathlib import Path

import pytest

from ovl_linkd.links.walk import MAX_SYMLINKS, open_parent, unsafe, unsafe_ancestor, walk


def _steps(path: Path | str, through: bool = False) -> list[str]:
    return [f"{step.directory}|{step.name}" for step in walk(str(path), through)]


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def test_each_lookup_is_named_before_it_is_done(top: Path) -> None:
    """The watcher puts its watch there first: a name that appears in between makes an event."""
    steps = walk(f"{top}/missing/more/link")
    for step in steps:
        if step.name == "missing":
            break
    assert (step.directory, step.last) == (str(top), False)
    with pytest.raises(FileNotFoundError):
        next(steps)


def test_the_last_component_is_not_looked_at(top: Path) -> None:
    (top / "link").symlink_to("/elsewhere/that/is/not/there")
    assert _steps(top / "link")[-1] == f"{top}|link"
    assert _steps(top / "nothing")[-1] == f"{top}|nothing"


def test_symlinks_on_the_way_are_walked_as_the_kernel_walks_them(top: Path) -> None:
    (top / "real/deep").mkdir(parents=True)
    (top / "absolute").symlink_to(top / "real")
    (top / "relative").symlink_to("real/../absolute/./deep/")
    steps = _steps(top / "relative/link")
    assert steps[-1] == f"{top}/real/deep|link"
    for passed in (f"{top}|relative", f"{top}|real", f"{top}|absolute", f"{top}/real|deep"):
        assert passed in steps


def test_dots_mean_the_physical_parent(top: Path) -> None:
    """`way/..` is the directory that `way` leads into, one up; not the one that holds `way`."""
    (top / "a/b").mkdir(parents=True)
    (top / "way").symlink_to("a/b")
    assert _steps(f"{top}/way/../link")[-1] == f"{top}/a|link"


def test_a_step_says_what_its_directory_is(top: Path) -> None:
    """By that the watcher tells whether it is the one that it watched."""
    (top / "a/b").mkdir(parents=True)
    (top / "way").symlink_to("a/b/../b")
    for step in walk(f"{top}/way/../b/link"):
        assert os.path.samestat(step.status, os.lstat(step.directory))


def test_a_file_at_the_end_is_an_end(top: Path) -> None:
    (top / "file").touch()
    assert _steps(top / "file", through=True)[-1] == f"{top}|file"


def test_a_target_is_followed_to_its_end(top: Path) -> None:
    (top / "store").mkdir()
    (top / "two").symlink_to("store")
    (top / "one").symlink_to("two")
    assert _steps(top / "one", through=True)[-3:] == [f"{top}|one", f"{top}|two", f"{top}|store"]


def test_a_loop_ends_as_in_the_kernel(top: Path) -> None:
    (top / "a").symlink_to("b")
    (top / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels") as caught:
        _steps(top / "a/link")
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, f"{top}/a/link")
    with pytest.raises(OSError, match="Too many levels"):
        os.stat(top / "a/link")


@pytest.mark.parametrize("hops", [MAX_SYMLINKS, MAX_SYMLINKS + 1])
def test_the_kernel_and_we_take_as_many_symlinks(top: Path, hops: int) -> None:
    (top / "0").mkdir()
    for number in range(1, hops + 1):
        (top / str(number)).symlink_to(str(number - 1))
    path = top / str(hops) / "link"
    try:
        os.lstat(path)
    except FileNotFoundError:
        assert _steps(path)[-1] == f"{top}/0|link"
    except OSError:
        with pytest.raises(OSError, match="Too many levels"):
            _steps(path)


def test_a_file_on_the_way_ends_it(top: Path) -> None:
    (top / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        _steps(top / "file/link")
    assert caught.value.filename == f"{top}/file"


def test_bytes_that_are_not_utf_8_are_names_like_others(top: Path) -> None:
    name = os.fsdecode(b"\xff\xfe \n")
    (top / name).mkdir()
    (top / "way").symlink_to(name)
    assert _steps(top / "way/link")[-1] == f"{top}/{name}|link"


# --- who may change it -----------------------------------------------------------------------

needs_root = pytest.mark.needs("root")


@needs_root
def test_a_way_that_only_root_can_change_is_safe(scratch: Path) -> None:
    (scratch / "a/b").mkdir(parents=True)
    assert unsafe_ancestor(f"{scratch}/a/b/link") is None
    assert unsafe_ancestor(f"{scratch}/a/missing/link") is None
    (scratch / "a/file").touch()
    assert unsafe_ancestor(f"{scratch}/a/file/link") is None


@needs_root
@pytest.mark.parametrize("where", ["a", "a/b"])
@pytest.mark.parametrize(
    ("uid", "gid", "mode", "reason"),
    [
        (1, 0, 0o755, "belongs to user 1"),
        (0, 0, 0o777, "writable by everybody"),
        (0, 0, 0o1777, "writable by everybody"),  # sticky: others still make names in it
        (0, 1, 0o775, "writable by group 1"),
    ],
)
def test_a_directory_of_others_is_found_and_named(
    scratch: Path, where: str, uid: int, gid: int, mode: int, reason: str
) -> None:
    (scratch / "a/b").mkdir(parents=True)
    os.chown(scratch / where, uid, gid)
    os.chmod(scratch / where, mode)
    said = unsafe_ancestor(f"{scratch}/a/b/link")
    assert said is not None
    assert str(scratch / where) in said
    assert reason in said


@needs_root
def test_a_group_of_root_is_root(scratch: Path) -> None:
    os.chmod(scratch, 0o775)
    assert unsafe_ancestor(f"{scratch}/link") is None


@pytest.mark.parametrize(
    ("directory", "uid", "gid", "mode", "reason"),
    [
        ("/d", 0, 1, 0o755, None),
        ("/d", 0, 1, 0o775, "/d is writable by group 1"),
        ("/d", 0, 0, 0o775, None),
        ("/d", 0, 0, 0o777, "/d is writable by everybody"),
        ("/d", 1, 0, 0o755, "/d belongs to user 1"),
        # In a user namespace it is the root outside, who can do anything anyway.
        ("/", 65534, 65534, 0o755, None),
        ("/", 65534, 65534, 0o777, "/ is writable by everybody"),
    ],
)
def test_who_decides_what_lies_in_a_directory(
    directory: str, uid: int, gid: int, mode: int, reason: str | None
) -> None:
    status = os.stat_result((0o40000 | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))
    assert unsafe(directory, status) == reason


@needs_root
def test_a_safe_directory_that_is_reached_by_an_unsafe_one_is_unsafe(scratch: Path) -> None:
    """Whoever may change the symlink decides where the path leads, however safe it is there."""
    (scratch / "safe").mkdir()
    (scratch / "theirs").mkdir()
    (scratch / "theirs/way").symlink_to(scratch / "safe")
    os.chmod(scratch / "theirs", 0o777)
    said = unsafe_ancestor(f"{scratch}/theirs/way/link")
    assert said is not None
    assert "theirs is writable by everybody" in said


@needs_root
def test_a_symlink_that_somebody_left_on_the_way_is_unsafe(scratch: Path) -> None:
    """The directory was writable for a while, and was closed again: who made the symlink then
    decided where root makes, and replaces, a name. The directory it leads to is anything but his.
    """
    (scratch / "safe").mkdir()
    (scratch / "way").symlink_to("safe")
    assert unsafe_ancestor(f"{scratch}/way/link") is None
    os.chown(scratch / "way", 1, 1, follow_symlinks=False)
    assert unsafe_ancestor(f"{scratch}/way/link") == f"{scratch}/way is a symlink of user 1"


@needs_root
def test_a_way_through_a_safe_symlink_into_an_unsafe_directory_is_unsafe(scratch: Path) -> None:
    (scratch / "theirs").mkdir()
    os.chown(scratch / "theirs", 1, 1)
    (scratch / "way").symlink_to("theirs")
    assert "belongs to user 1" in str(unsafe_ancestor(f"{scratch}/way/link"))


# --- the directory itself --------------------------------------------------------------------


def _opened(path: Path | str) -> str:
    """Where the directory lies that was opened for PATH."""
    directory = open_parent(str(path))
    try:
        return os.readlink(f"/proc/self/fd/{directory}")
    finally:
        os.close(directory)


@pytest.fixture
def theirs(scratch: Path) -> Path:
    """A directory of somebody else's, beside a safe one."""
    (scratch / "safe/deep").mkdir(parents=True)
    (scratch / "theirs/deep/deeper").mkdir(parents=True)
    os.chown(scratch / "theirs", 1, 1)
    return scratch / "theirs"


@needs_root
def test_the_way_of_root_is_followed_to_their_directory_and_below(theirs: Path) -> None:
    way = theirs.parent / "way"
    way.symlink_to("safe/../theirs")
    assert _opened(way / "link") == str(theirs)
    assert _opened(way / "deep/deeper/link") == f"{theirs}/deep/deeper"
    assert _opened(theirs.parent / "safe/deep/link") == f"{theirs.parent}/safe/deep"
    assert _opened("/link") == "/"


@needs_root
@pytest.mark.parametrize("owner", [0, 1])
@pytest.mark.parametrize("where", ["way", "deep/way", "deep/deeper/way"])
def test_no_symlink_is_followed_where_others_may_have_put_it(
    theirs: Path, where: str, owner: int
) -> None:
    """Root's neither: whoever owns the directory may have got it from elsewhere."""
    (theirs / where).symlink_to(theirs.parent / "safe")
    os.chown(theirs / where, owner, owner, follow_symlinks=False)
    for path in (f"{theirs}/{where}/link", f"{theirs}/{where}/deep/link"):
        with pytest.raises(OSError, match="not followed") as caught:
            open_parent(path)
        assert caught.value.errno == errno.ELOOP


@needs_root
def test_a_symlink_that_somebody_left_is_not_followed(theirs: Path) -> None:
    way = theirs.parent / "way"
    way.symlink_to("safe")
    os.chown(way, 1, 1, follow_symlinks=False)
    with pytest.raises(OSError, match=f"not followed: '{way}'"):
        open_parent(f"{way}/link")


@needs_root
def test_a_way_that_ends_says_how(theirs: Path) -> None:
    (theirs / "file").touch()
    for path, error in (("no", FileNotFoundError), ("file", NotADirectoryError)):
        for below in ("link", "way/link"):
            with pytest.raises(error):
                open_parent(f"{theirs}/{path}/{below}")
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        open_parent(f"{theirs}/deep/no/link")
    assert os.listdir("/proc/self/fd") == descriptors, "one was left open"


@needs_root
def test_what_cannot_be_looked_at_is_not_taken_for_safe(scratch: Path) -> None:
    """So a user's FUSE file system answers root: mounted over his directory, it hid whose that was
    until he took it away again, between the look and the repair."""
    (scratch / "closed").mkdir(mode=0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            unsafe_ancestor(f"{scratch}/closed/d/link")
    finally:
        os.seteuid(0)
