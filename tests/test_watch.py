"""Events from the real kernel, turned into "look again at these"."""

import os
import select
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovl_linkd.links.watch import Watch
from tests.daemon.world import MS_BIND, RENAME_EXCHANGE, mount, renameat2, umount
from tests.others import NOBODY, as_user

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch()
    yield made
    made.close()


@pytest.fixture
def top(scratch: Path) -> Path:
    (scratch / "a/b").mkdir(parents=True)
    (scratch / "t/u").mkdir(parents=True)
    return scratch


def _follow(watch: Watch, top: Path) -> None:
    watch.follow([(str(top / "a/b/link"), "link", False), (str(top / "t/u"), "target", True)])
    _events(watch)


def _events(watch: Watch) -> set[str]:
    """All tags that wait now: inotify queues an event before the system call that made it ends."""
    tags: set[str] = set()
    while select.select([watch], [], [], 0)[0]:
        tags.update(watch.read())
    return tags


def _mounts(watch: Watch) -> set[str] | None:
    """The tags after a change of the mount table; None where nothing says that there was one."""
    readable = select.select([watch.mounts_fileno()], [], [], 0)[0]
    return set(watch.moved()) if readable else None


def test_only_the_link_that_changed_is_looked_at(watch: Watch, top: Path) -> None:
    (top / "a/b/other").symlink_to("/")
    watch.follow([(f"{top}/a/b/{name}", name, False) for name in ("one", "two")])
    os.symlink("/x", top / "a/b/one")
    assert _events(watch) == {"one"}
    (top / "a/b/other").unlink()
    assert _events(watch) == set()


def test_every_name_in_a_directory_is_watched_by_one_watch(watch: Watch, top: Path) -> None:
    """A farm has a hundred thousand entries, and a user some thousands of watches."""
    farm = top / "a/farm"
    farm.mkdir()
    watch.follow([(str(top / "a/b/link"), "link", False)], [(str(farm), "farm")])
    watches = len(Path(f"/proc/self/fdinfo/{watch.fileno()}").read_text().splitlines())
    for name in range(100):
        (farm / str(name)).symlink_to("/x")
    assert _events(watch) == {f"farm/{name}" for name in range(100)}
    assert len(Path(f"/proc/self/fdinfo/{watch.fileno()}").read_text().splitlines()) == watches
    os.rename(farm / "7", farm / "seven")
    os.unlink(farm / "8")
    os.utime(farm / "9", (0, 0), follow_symlinks=False)
    assert _events(watch) == {f"farm/{name}" for name in ("7", "seven", "8", "9")}
    os.symlink("/x", top / "a/b/link")
    assert _events(watch) == {"link"}


def test_a_watched_directory_that_goes_and_comes_is_looked_at_as_a_whole(
    watch: Watch, top: Path
) -> None:
    farm = top / "a/farm"
    watch.follow([], [(str(farm), "farm")])
    assert _events(watch) == set()
    farm.mkdir()
    assert _events(watch) == {"farm"}
    (farm / "1").symlink_to("/x")
    assert _events(watch) == {"farm/1"}
    os.rename(top / "a", top / "c")
    assert "farm" in _events(watch)
    (top / "a/farm").mkdir(parents=True)
    assert "farm" in _events(watch)
    (farm / "2").symlink_to("/x")
    assert _events(watch) == {"farm/2"}
    watch.follow([])
    (farm / "3").symlink_to("/x")
    assert _events(watch) == set()
    watch.follow([], [(str(farm), "farm")])
    assert watch.everything() == ["farm"]


def test_a_rename_over_the_link_is_seen(watch: Watch, top: Path) -> None:
    """There is no DELETE then; MOVED_TO is all that tells."""
    os.symlink("/x", top / "a/b/link")
    os.symlink("/y", top / "a/b/new")
    _follow(watch, top)
    os.rename(top / "a/b/new", top / "a/b/link")
    assert _events(watch) == {"link"}


@pytest.mark.parametrize(("gone", "tag"), [("a/b", "link"), ("a", "link"), ("t", "target")])
def test_a_directory_that_goes_and_comes_is_followed(
    watch: Watch, top: Path, gone: str, tag: str
) -> None:
    _follow(watch, top)
    (top / gone).rename(top / "away")
    assert _events(watch) == {tag}
    shutil.rmtree(top / "away")
    _events(watch)
    (top / gone).mkdir()
    assert _events(watch) == {tag}
    (top / "a/b").mkdir(exist_ok=True, parents=True)
    (top / "t/u").mkdir(exist_ok=True, parents=True)
    assert tag in _events(watch) | {tag}
    os.symlink("/x", top / "a/b/link")
    (top / "t/u").rmdir()
    assert _events(watch) == {"link", "target"}


def test_events_below_the_old_place_of_a_directory_are_nobody_s(watch: Watch, top: Path) -> None:
    """A watch follows its inode: the renamed directory must not be taken for the path."""
    _follow(watch, top)
    (top / "a/b").rename(top / "away")
    (top / "a/b").mkdir()
    _events(watch)
    os.symlink("/x", top / "away/link")
    assert _events(watch) == set()
    os.symlink("/x", top / "a/b/link")
    assert _events(watch) == {"link"}


def test_two_trees_that_change_places(watch: Watch, top: Path) -> None:
    (top / "c/b").mkdir(parents=True)
    _follow(watch, top)
    renameat2(top / "a", top / "c", RENAME_EXCHANGE)
    assert _events(watch) == {"link"}
    os.symlink("/x", top / "a/b/link")
    assert _events(watch) == {"link"}
    os.symlink("/x", top / "c/b/link")
    assert _events(watch) == set()


def test_a_symlink_on_the_way_that_leads_back_to_where_the_link_lies(
    watch: Watch, top: Path
) -> None:
    """Once it was gone, the way led elsewhere, and what happened there was never seen."""
    (top / "a/back").symlink_to(top / "a")
    watch.follow([(str(top / "a/back/link"), "link", False)])
    _events(watch)
    (top / "a/back").unlink()
    (top / "a/back").mkdir()
    assert _events(watch) == {"link"}
    (top / "a/back/link").symlink_to("/x")
    assert _events(watch) == {"link"}


def test_names_that_are_not_utf_8(watch: Watch, top: Path) -> None:
    directory = os.fsencode(top) + b"/\xff\n"
    os.mkdir(directory)
    path = directory + b"/\xfe"
    watch.follow([(os.fsdecode(path), "one", False)])
    os.symlink("/x", path)
    assert _events(watch) == {"one"}


def test_a_name_of_255_bytes(watch: Watch, top: Path) -> None:
    path = str(top / ("x" * 255))
    watch.follow([(path, "one", False)])
    os.symlink("/x", path)
    assert _events(watch) == {"one"}


def test_a_full_queue_is_answered_by_looking_at_everything(watch: Watch, top: Path) -> None:
    """The kernel drops what doesn't fit; only the word that it did remains."""
    _follow(watch, top)
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(most // 2 + 2):
        name = top / f"a/b/{number % 2}"
        name.symlink_to("/")
        name.unlink()
    (top / "t/u").rmdir()  # this event is lost
    (top / "t/u").mkdir()
    assert watch.overflows == 0
    assert _events(watch) == {"link", "target"}
    assert watch.overflows == 1
    (top / "t/u").rmdir()
    assert _events(watch) == {"target"}, "and the watches still stand"


# --- the mount table -------------------------------------------------------------------------


def test_a_mount_over_a_directory_on_the_way(watch: Watch, top: Path) -> None:
    """It makes no inotify event at all."""
    _follow(watch, top)
    _mounts(watch)
    mount("t", top / "a/b", "tmpfs", 0, "mode=0755")
    assert _events(watch) == set()
    assert _mounts(watch) == {"link"}
    os.symlink("/x", top / "a/b/link")
    assert _events(watch) == {"link"}
    umount(top / "a/b")  # EBUSY, if a descriptor were held in there
    assert {"link"} == _events(watch) | (_mounts(watch) or set())
    os.symlink("/x", top / "a/b/link")
    assert _events(watch) == {"link"}


def test_a_file_system_in_the_place_of_another_with_the_same_numbers(
    watch: Watch, top: Path
) -> None:
    """A tmpfs that is taken off leaves its device number to the next one, and root is inode 1.

    One path saw the change, by a directory that was missing, and put a new watch on the one that
    both shared; by the other path nobody was told: the event was for a watch that was known no
    more. Most of the time the kernel gives the same number again at once.
    """
    a = top / "a"
    for _ in range(10):
        mount("t", a, "tmpfs", 0, "mode=0755")
        (a / "b").mkdir()
        watch.follow([(f"{a}/b/link", "deep", False), (f"{a}/link", "shallow", False)])
        _mounts(watch)
        _events(watch)
        umount(a)
        mount("t", a, "tmpfs", 0, "mode=0755")
        assert (_mounts(watch) or set()) | _events(watch) == {"deep", "shallow"}
        watch.follow([])
        umount(a)


def test_a_mount_over_the_target_itself(watch: Watch, top: Path) -> None:
    _follow(watch, top)
    _mounts(watch)
    mount("t", top / "t/u", "tmpfs")
    assert _mounts(watch) == {"target"}
    umount(top / "t/u")
    assert _mounts(watch) == {"target"}


def test_a_mount_elsewhere_is_nobody_s(watch: Watch, top: Path) -> None:
    (top / "elsewhere").mkdir()
    _follow(watch, top)
    _mounts(watch)
    mount("t", top / "elsewhere", "tmpfs")
    assert _mounts(watch) == set()
    assert _mounts(watch) is None, "one change is told once"
    umount(top / "elsewhere")
    assert _mounts(watch) == set()


def test_one_directory_under_two_names(watch: Watch, top: Path) -> None:
    """A bind mount: one inode, and so one watch, but two ways to it."""
    (top / "bound").mkdir()
    mount(str(top / "a/b"), top / "bound", "", MS_BIND)
    watch.follow([(f"{top}/a/b/link", "one", False), (f"{top}/bound/link", "two", False)])
    os.symlink("/x", top / "a/b/link")
    assert _events(watch) == {"one", "two"}
    watch.follow([(f"{top}/bound/link", "two", False)])
    _events(watch)
    os.unlink(top / "a/b/link")
    assert _events(watch) == {"two"}, "the other one left the watch in place"


# --- the kernel's limits ---------------------------------------------------------------------


def test_what_is_followed_no_more_is_watched_no_more(watch: Watch, top: Path) -> None:
    """Watches are counted for each user; a reload must give them back."""

    def watches() -> int:
        return Path(f"/proc/self/fdinfo/{watch.fileno()}").read_text().count("inotify wd:")

    watch.follow([])
    assert watches() == 0
    _follow(watch, top)
    assert watches() > 0
    for _ in range(3):
        (top / "a/b").rename(top / "away")
        _events(watch)
        (top / "away").rename(top / "a/b")
        _events(watch)
    mount("t", top / "a", "tmpfs")
    watch.moved()
    umount(top / "a")
    watch.moved()
    watch.follow([])
    assert watches() == 0


def test_a_directory_that_may_not_be_read_is_said_and_passed_over(scratch: Path) -> None:
    """0711, as /var/lib/containerd is: what is below it can be reached and not watched."""
    (scratch / "closed/open").mkdir(parents=True)
    (scratch / "closed").chmod(0o711)
    os.chown(scratch / "closed/open", NOBODY, NOBODY)

    def look() -> tuple[set[str], set[str]]:
        watch = Watch()
        watch.follow([(f"{scratch}/closed/open/link", "one", False)])
        os.symlink("/x", scratch / "closed/open/link")
        tags = _events(watch)
        unwatched = set(watch.unwatched)
        watch.close()
        return tags, unwatched

    assert as_user(NOBODY, look) == ({"one"}, {str(scratch / "closed")})


def test_links_of_one_directory_share_its_watch(watch: Watch, top: Path) -> None:
    watch.follow([(f"{top}/a/b/{number}", str(number), False) for number in range(1000)])
    fdinfo = Path(f"/proc/self/fdinfo/{watch.fileno()}").read_text()
    assert fdinfo.count("inotify wd:") <= len((top / "a/b").parts)
