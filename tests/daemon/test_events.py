"""Everything that can happen to a link from outside, done in earnest to a running daemon.

The safety net (`resync-interval`) is an hour away here: what comes back comes by an event.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.daemon.world import (
    MS_BIND,
    MS_RDONLY,
    MS_REMOUNT,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Daemon,
    mount,
    renameat2,
    umount,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root")


class World(NamedTuple):
    """A daemon that keeps `top`/a/b/c/link -> `top`/t/u/v, and `top`/s/link beside it."""

    daemon: Daemon
    top: Path
    parent: Path
    path: Path
    target: Path

    def right(self) -> bool:
        return os.path.islink(self.path) and os.readlink(self.path) == str(self.target)


@pytest.fixture(scope="module")
def running(shared: Callable[[], Daemon]) -> Daemon:
    daemon = shared()
    daemon.write({})
    daemon.start()
    return daemon


@pytest.fixture
def world(running: Daemon, scratch: Path) -> Iterator[World]:
    parent, target = scratch / "a/b/c", scratch / "t/u/v"
    parent.mkdir(parents=True)
    target.mkdir(parents=True)
    (scratch / "s").mkdir()
    running.write({"one": (parent / "link", target), "sentinel": (scratch / "s/link", target)})
    running.call("Reload")
    made = World(running, scratch, parent, parent / "link", target)
    assert made.right()
    yield made
    running.write({})
    running.call("Reload")


def sh(text: str, cwd: Path) -> None:
    subprocess.run(["/bin/sh", "-ec", text], cwd=cwd, check=True)


# --- the link itself -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["rm link", "mv link ../elsewhere", "unlink link"])
def test_a_link_that_is_gone_is_back(world: World, how: str) -> None:
    with world.daemon.repairing("one", "missing"):
        sh(how, world.parent)


@pytest.mark.parametrize(
    "how",
    [
        "ln -sfn /elsewhere link",
        "ln -s /elsewhere new; mv -T new link",  # MOVED_TO and nothing else
        "rm link; ln -s /elsewhere link",
        "ln -s /elsewhere new; mv -fT new link; ln -sfn /elsewhere2 link",
    ],
)
def test_a_link_that_leads_elsewhere_is_replaced(world: World, how: str) -> None:
    with world.daemon.repairing("one", "wrong"), world.daemon.frozen():
        sh(how, world.parent)

    assert [name for name in os.listdir(world.parent) if "ovl-linkd" in name] == []


@pytest.mark.parametrize(
    "how",
    [
        "rm link; echo precious >link",
        "echo precious >new; mv -T new link",  # rename over it: no DELETE
        "rm link; mkdir link; echo precious >link/file",
        "mkdir new; echo precious >new/file; rm link; mv -T new link",
        "rm link; mkfifo link",
    ],
)
def test_what_is_no_symlink_is_left_alone_until_it_goes(world: World, how: str) -> None:
    """containerd, for one, makes a directory where its root_path leads nowhere."""
    with world.daemon.frozen():  # or the link is back before anything else takes its place
        sh(how, world.parent)
    blocked = world.daemon.until_state("one", "blocked")
    assert str(world.path) in blocked["reason"]
    assert blocked["remedy"]
    assert not world.path.is_symlink()

    with world.daemon.repairing("one", "missing"):
        sh("mv link obstacle", world.parent)

    obstacle = world.parent / "obstacle"
    if not obstacle.is_fifo():
        file = obstacle / "file" if obstacle.is_dir() else obstacle
        assert file.read_text() == "precious\n"


def test_a_link_that_is_exchanged_for_another_is_put_right(world: World) -> None:
    other = world.parent / "other"
    other.symlink_to("/elsewhere")
    with world.daemon.repairing("one", "wrong"):
        renameat2(other, world.path, RENAME_EXCHANGE)

    assert os.readlink(other) == str(world.target), "what was exchanged out is not ours to touch"


def test_a_link_that_is_exchanged_for_a_directory_is_blocked(world: World) -> None:
    other = world.parent / "other"
    other.mkdir()
    (other / "file").write_text("precious")
    renameat2(other, world.path, RENAME_EXCHANGE)

    world.daemon.until_state("one", "blocked")
    assert (world.path / "file").read_text() == "precious"


def test_what_doesnt_change_the_link_is_not_worth_a_word(world: World) -> None:
    """chown -h and touch -h make events, like the thousand files of other people beside it."""

    def act() -> None:
        os.chown(world.path, 1, 1, follow_symlinks=False)
        os.utime(world.path, (0, 0), follow_symlinks=False)
        for number in range(100):
            (world.parent / f"other{number}").touch()

    assert world.daemon.changes(act, "one") == []
    assert world.right()


# --- the directories above it ----------------------------------------------------------------


def test_a_parent_that_is_removed_and_made_again(world: World) -> None:
    with world.daemon.frozen():  # awake it puts the link back before the directory is empty
        shutil.rmtree(world.parent)
    world.daemon.until("one", lambda link: link["repairs"] > 1)

    assert world.right(), "its own parent is root's and nobody else's: it is made"
    assert world.parent.stat().st_mode & 0o7777 == 0o755


def test_a_parent_that_is_removed_while_somebody_is_in_there(world: World) -> None:
    """The watch on the removed directory stays silent as long as a process has its cwd there."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=world.parent) as inside:
        with world.daemon.repairing("one", "missing"), world.daemon.frozen():
            shutil.rmtree(world.parent)
        with world.daemon.repairing("one", "missing"):
            world.path.unlink()
        inside.communicate()


@pytest.mark.parametrize("ancestor", ["a/b", "a"])
def test_an_ancestor_that_is_removed_is_awaited(world: World, ancestor: str) -> None:
    """A missing grandparent is more likely a file system that is not mounted yet."""
    with world.daemon.frozen():  # awake it puts the link back before the directory is empty
        shutil.rmtree(world.top / ancestor)
    waiting = world.daemon.until_state("one", "waiting")
    assert str(world.parent) in waiting["reason"]

    with world.daemon.repairing("one", "missing"):
        world.parent.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("ancestor", ["a/b/c", "a/b", "a"])
def test_an_ancestor_that_is_renamed_away_and_back(world: World, ancestor: str) -> None:
    """A watch follows its directory to the new name; and a grandparent's makes no event at all."""
    here, away = world.top / ancestor, world.top / "away"
    here.rename(away)
    if here == world.parent:
        world.daemon.until("one", lambda link: link["repairs"] > 1)  # it was made anew
        renameat2(away, here, RENAME_EXCHANGE)
    else:
        world.daemon.until_state("one", "waiting")
        away.rename(here)
    world.daemon.until_state("one", "ok")
    assert world.right()
    with world.daemon.repairing("one", "missing"):
        world.path.unlink()


def test_another_directory_in_the_place_of_an_ancestor(world: World) -> None:
    """Two whole trees change places in one system call, as deployments do."""
    (world.top / "new/b/c").mkdir(parents=True)
    with world.daemon.repairing("one", "missing"):
        renameat2(world.top / "new", world.top / "a", RENAME_EXCHANGE)
    with world.daemon.repairing("one", "missing"):
        world.path.unlink()


def test_the_link_is_made_again_in_a_parent_that_comes_back_with_a_foreign_one(
    world: World,
) -> None:
    other = world.top / "other/c"
    other.mkdir(parents=True)
    (other / "link").symlink_to("/elsewhere")
    with world.daemon.repairing("one", "wrong"):
        renameat2(world.top / "other", world.top / "a/b", RENAME_EXCHANGE)


def test_a_symlinked_ancestor_that_is_changed_to_lead_elsewhere(world: World) -> None:
    (world.top / "one/c").mkdir(parents=True)
    (world.top / "two/c").mkdir(parents=True)
    way = world.top / "way"
    way.symlink_to("one")
    path = way / "c/link"
    world.daemon.write(
        {"one": (path, world.target), "sentinel": (world.top / "s/link", world.target)}
    )
    world.daemon.call("Reload")
    assert os.readlink(world.top / "one/c/link") == str(world.target)

    new = world.top / "new"
    new.symlink_to(world.top / "two")
    with world.daemon.repairing("one", "missing"):
        new.rename(way)
    assert os.readlink(world.top / "two/c/link") == str(world.target)
    with world.daemon.repairing("one", "missing"):
        (world.top / "two/c/link").unlink()


# --- mounts ----------------------------------------------------------------------------------


def test_no_mount_is_held_busy(world: World) -> None:
    """A descriptor on a watched directory, O_PATH too, would make umount(2) fail with EBUSY."""
    mount("t", world.parent, "tmpfs", 0, "mode=0755")
    world.daemon.until("one", lambda link: link["repairs"] > 1)
    assert world.right()
    with world.daemon.repairing("one", "missing"):
        world.path.unlink()

    umount(world.parent)

    assert world.right(), "the one below it is still there"
    with world.daemon.repairing("one", "missing"):
        world.path.unlink()


def test_a_parent_whose_file_system_comes_and_goes(world: World) -> None:
    """`umount` of a tmpfs gives UNMOUNT on the watch; what is below it may have no link."""
    world.path.unlink()
    world.daemon.until("one", lambda link: link["repairs"] == 2)
    for grandparent in (world.top / "a", world.top / "a/b"):
        mount("t", grandparent, "tmpfs", 0, "mode=0755")
        world.daemon.until_state("one", "waiting" if grandparent.name == "a" else "ok")
        umount(grandparent)
        world.daemon.until_state("one", "ok")
        assert world.right()


def test_a_bind_mount_over_the_parent(world: World) -> None:
    other = world.top / "other"
    other.mkdir()
    with world.daemon.repairing("one", "missing"):
        mount(str(other), world.parent, "", MS_BIND)
    assert os.readlink(other / "link") == str(world.target)
    with world.daemon.repairing("one", "missing"):
        (other / "link").unlink()
    umount(world.parent)
    with world.daemon.repairing("one", "missing"):
        world.path.unlink()


def test_a_mount_that_follows_another_at_once_is_seen_too(world: World) -> None:
    """The second one falls into the tenth of a second in which further ones are gathered.

    Polling the mount table takes the news away (fs/namespace.c, mounts_poll): whoever asks twice
    and believes the second answer has lost it.
    """
    elsewhere = world.top / "elsewhere"
    elsewhere.mkdir()
    with world.daemon.repairing("one", "missing"):
        mount("t", elsewhere, "tmpfs")
        with world.daemon.repairing("sentinel"):  # by now the first one was read
            (world.top / "s/link").unlink()
        mount("t", world.parent, "tmpfs", 0, "mode=0755")
    umount(world.parent)
    umount(elsewhere)


def test_a_mount_elsewhere_is_no_news(world: World) -> None:
    """Each container start changes the mount table."""
    elsewhere = world.top / "elsewhere"
    elsewhere.mkdir()

    def act() -> None:
        for _ in range(20):
            mount("t", elsewhere, "tmpfs")
            umount(elsewhere)

    assert world.daemon.changes(act, "one") == []


# --- the target ------------------------------------------------------------------------------


def test_a_target_that_vanishes_and_appears(world: World) -> None:
    """A link to nothing is kept: the store may be made later, and on another mount."""
    world.target.rmdir()
    dangling = world.daemon.until_state("one", "dangling")
    assert dangling["target_exists"] is False
    assert world.right()

    world.target.mkdir()
    assert world.daemon.until_state("one", "ok")["target_exists"] is True
    assert world.daemon.link("one")["repairs"] == 1


@pytest.mark.parametrize("ancestor", ["t/u/v", "t/u", "t"])
def test_a_target_that_is_renamed_away_and_back(world: World, ancestor: str) -> None:
    (world.top / ancestor).rename(world.top / "away")
    world.daemon.until_state("one", "dangling")
    (world.top / "away").rename(world.top / ancestor)
    world.daemon.until_state("one", "ok")


def test_a_target_that_becomes_a_file(world: World) -> None:
    world.target.rmdir()
    world.target.touch()
    dangling = world.daemon.until(
        "one", lambda link: link["state"] == "dangling" and "not a directory" in link["reason"]
    )
    assert str(world.target) in dangling["reason"]


def test_a_target_whose_parent_is_mounted_over(world: World) -> None:
    mount("t", world.target.parent, "tmpfs")
    world.daemon.until_state("one", "dangling")
    umount(world.target.parent)
    world.daemon.until_state("one", "ok")


def test_a_target_that_is_mounted_over_stays_a_target(world: World) -> None:
    mount("t", world.target, "tmpfs")
    with world.daemon.repairing("one", "missing"):
        world.path.unlink()
    umount(world.target)
    world.target.rmdir()
    world.daemon.until_state("one", "dangling")


def test_a_target_that_is_itself_a_symlink_which_is_changed(world: World) -> None:
    """/var/lib/containerd is one where the disk was too small."""
    world.target.rmdir()
    world.daemon.until_state("one", "dangling")
    (world.top / "store").mkdir()
    world.target.symlink_to(world.top / "store")
    world.daemon.until_state("one", "ok")
    (world.top / "store").rmdir()
    world.daemon.until_state("one", "dangling")
    (world.top / "nothing").symlink_to("store")
    (world.top / "store2").mkdir()
    (world.top / "new").symlink_to(world.top / "store2")
    (world.top / "new").rename(world.target)
    world.daemon.until_state("one", "ok")


# --- when it can't be put right --------------------------------------------------------------


def test_a_read_only_file_system_is_tried_again(world: World) -> None:
    """`mount -o remount,ro` after an error on the disk, and back."""
    mount("t", world.parent, "tmpfs", 0, "mode=0755")
    world.daemon.until("one", lambda link: link["repairs"] > 1)
    with world.daemon.frozen():
        world.path.unlink()
        mount("t", world.parent, "tmpfs", MS_REMOUNT | MS_RDONLY)
    failing = world.daemon.until_state("one", "failing")
    assert "Read-only file system" in failing["reason"]
    assert failing["next_try"]
    mount("t", world.parent, "tmpfs", MS_REMOUNT)
    world.daemon.until_state("one", "ok")
    assert world.right()
    umount(world.parent)


def test_a_parent_that_cant_be_made_on_a_read_only_file_system_is_tried_again(
    world: World,
) -> None:
    """No event tells that a file system has become writable: only another attempt finds out."""
    above = world.parent.parent
    mount("t", above, "tmpfs", 0, "mode=0755")
    world.daemon.until("one", lambda link: link["repairs"] > 1)
    with world.daemon.frozen():
        shutil.rmtree(world.parent)
        mount("t", above, "tmpfs", MS_REMOUNT | MS_RDONLY)
    world.daemon.until("one", lambda link: link["state"] in ("waiting", "failing"))
    mount("t", above, "tmpfs", MS_REMOUNT)
    wait_until(world.right, "the link, on a file system that is writable again")
    umount(above)


def test_a_full_file_system_is_tried_again(world: World) -> None:
    mount("t", world.parent, "tmpfs", 0, "mode=0755,nr_inodes=3")
    world.daemon.until("one", lambda link: link["repairs"] > 1)
    with world.daemon.frozen():
        world.path.unlink()
        (world.parent / "full").touch()
        (world.parent / "fuller").touch()
    failing = world.daemon.until_state("one", "failing")
    assert "No space left on device" in failing["reason"]
    assert "inodes" in failing["remedy"]
    with world.daemon.repairing("one", "missing"):
        (world.parent / "full").unlink()
    umount(world.parent)


# --- storms ----------------------------------------------------------------------------------


def test_lost_events_are_answered_by_a_full_rescan(world: World) -> None:
    """The kernel keeps 16,384 events. What comes after them is lost: the removal, here.

    The daemon is stopped meanwhile, as a busy machine stops it for a moment.
    """
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    unrelated = [str(world.parent / str(number)) for number in range(20_000)]
    assert 2 * len(unrelated) > most
    with world.daemon.repairing("one", "missing"), world.daemon.frozen():
        for path in unrelated:
            os.symlink("/", path)
        for path in unrelated:
            os.unlink(path)
        world.path.unlink()
    with world.daemon.repairing("one", "missing"):
        world.path.unlink()


def test_ten_thousand_links_that_are_removed_at_once_are_all_back(
    daemon: Daemon, scratch: Path
) -> None:
    target, parent = scratch / "t", scratch / "p"
    target.mkdir()
    parent.mkdir()
    paths = {f"l{number}": parent / f"l{number}" for number in range(10_000)}
    daemon.write({name: (path, target) for name, path in paths.items()})
    daemon.start(python=[sys.executable])

    with daemon.frozen():
        for path in paths.values():
            os.unlink(path)
        for path in paths.values():
            os.symlink("/elsewhere", path)
        for path in paths.values():
            os.unlink(path)
    for name in ("l0", "l5000", "l9999"):
        daemon.until(name, lambda link: link["repairs"] > 1)
    wait_until(lambda: len(os.listdir(parent)) == len(paths), "all of them are back")
    assert {os.readlink(path) for path in paths.values()} == {str(target)}
    assert len(daemon.log().splitlines()) < 50, "a storm is a handful of lines"


def test_a_fight_is_said_once_and_doesnt_cost_the_link_that_is_missing(world: World) -> None:
    """Two programs that both insist on one symlink would otherwise do nothing else any more."""
    for number in range(50):
        new = world.parent / "new"
        new.symlink_to(f"/elsewhere{number}")
        new.rename(world.path)
        seen = world.daemon.until(
            "one", lambda link: link["state"] == "ok" or bool(link["fighting"])
        )
        if seen["fighting"]:
            break
    else:
        pytest.fail("fifty replacements were no fight")
    assert number >= 10
    log = world.daemon.log()
    assert log.count(f"{world.path} is being replaced again and again") == 1

    world.path.unlink()
    wait_until(world.right, "a missing link is made at once")


# --- while it is down ------------------------------------------------------------------------


def test_whatever_happened_while_it_was_down_is_healed_at_the_start(
    daemon: Daemon, scratch: Path
) -> None:
    target = scratch / "t"
    target.mkdir()
    names = ("gone", "foreign", "taken", "parentless")
    for name in names:
        (scratch / name).mkdir()
    daemon.write({name: (scratch / name / "link", target) for name in names})
    daemon.start()
    daemon.stop()
    for name in names:
        assert os.readlink(scratch / name / "link") == str(target), "links stay when it stops"

    (scratch / "gone/link").unlink()
    sh("ln -sfn /elsewhere link", scratch / "foreign")
    sh("rm link; echo precious >link", scratch / "taken")
    shutil.rmtree(scratch / "parentless")
    daemon.start()

    states = {link["name"]: link["state"] for link in daemon.call("Status")["links"]}
    assert states == {"gone": "ok", "foreign": "ok", "taken": "blocked", "parentless": "ok"}
    for name in ("gone", "foreign", "parentless"):
        assert os.readlink(scratch / name / "link") == str(target)
    assert (scratch / "taken/link").read_text() == "precious\n"


def test_a_daemon_that_was_killed_leaves_nothing_that_the_next_one_stumbles_over(
    daemon: Daemon, scratch: Path
) -> None:
    """kill -9 in the middle of a replacement, and a file that had been exchanged out."""
    target, path, spare = scratch / "t", scratch / "link", scratch / ".link.ovl-linkd"
    target.mkdir()
    daemon.write({"one": (path, target)})
    daemon.start()
    daemon.kill()
    spare.write_text("precious")
    daemon.start()

    assert path.read_text() == "precious"
    assert not os.path.lexists(spare)
    daemon.until_state("one", "blocked")


def test_an_exclusive_rename_onto_a_kept_path_never_finds_it_free(world: World) -> None:
    """While the link is there, RENAME_NOREPLACE is how a careful program behaves."""
    mine = world.parent / "mine"
    mine.touch()
    with pytest.raises(FileExistsError):
        renameat2(mine, world.path, RENAME_NOREPLACE)
