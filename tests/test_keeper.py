"""What keeping means, row by row, on real directories and by a clock of the test's own."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovl_linkd.links import keeper
from ovl_linkd.links.flags import set_append_only
from ovl_linkd.links.history import Change, Status
from ovl_linkd.links.keeper import Keeper
from ovl_linkd.links.link import Link, Observation, observe
from ovl_linkd.links.pauses import Rivalry
from tests.daemon.world import MS_RDONLY, MS_REMOUNT, mount, umount
from tests.others import NOBODY, as_user

pytestmark = pytest.mark.needs("root")


class World:
    """A keeper of one link `top`/p/link -> `top`/t, and a clock that only the test moves."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.parent, self.path, self.target = top / "p", top / "p/link", top / "t"
        self.parent.mkdir()
        self.target.mkdir()
        self.now = 1000.0
        self.keeper = Keeper(lambda: self.now)
        self.link = Link("one", str(self.path), str(self.target))
        self.keeper.want([self.link])

    def look(self, after: float = 0.0) -> list[Change]:
        self.now += after
        return self.keeper.look(self.keeper.names, self.now)

    def seen(self) -> Status:
        self.look()
        (status,) = self.keeper.statuses()
        return status

    def replace(self, text: str = "/elsewhere") -> None:
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(text)

    def right(self) -> bool:
        return self.path.is_symlink() and os.readlink(self.path) == str(self.target)


@pytest.fixture
def world(scratch: Path) -> World:
    return World(scratch)


# --- the table -------------------------------------------------------------------------------


def test_a_missing_link_is_made(world: World) -> None:
    (change,) = world.look()
    assert world.right()
    assert change.before is None
    assert change.after.state == "ok"
    assert change.repair
    assert (change.repair.found, change.after.repairs) == ("missing", 1)


def test_a_right_link_is_no_news(world: World) -> None:
    world.look()
    inode = os.lstat(world.path).st_ino
    assert world.look() == []
    assert os.lstat(world.path).st_ino == inode, "it was made again for nothing"
    assert world.keeper.deadline() is None, "there is nothing to wait for"


def test_nothing_is_said_of_a_link_before_the_first_look(world: World) -> None:
    assert world.keeper.statuses() == []


def test_a_state_has_a_beginning_and_a_repair_is_remembered(world: World) -> None:
    world.look()
    world.look(after=5)
    assert world.seen().since == 1000
    made = world.seen().last_repair
    assert made
    assert made.at == 1000
    world.path.unlink()
    world.path.touch()
    world.look(after=5)
    assert (world.seen().state, world.seen().since) == ("blocked", 1010)
    assert world.seen().last_repair == made
    world.path.unlink()
    world.look(after=5)
    again = world.seen().last_repair
    assert again
    assert (again.at, world.seen().since) == (1015, 1015)


@pytest.mark.parametrize("found", ["missing", "wrong"])
def test_a_repair_takes_the_time_from_the_event_to_its_end(world: World, found: str) -> None:
    world.keeper = Keeper(lambda: world.now + 0.25)
    world.keeper.want([world.link])
    if found == "wrong":
        world.replace()
    (change,) = world.look()
    assert change.repair
    assert (change.repair.found, change.repair.at, change.repair.took) == (found, 1000, 0.25)


@pytest.mark.parametrize(
    "different",
    [
        {"state": "blocked"},
        {"actual": "/b"},
        {"target_exists": False},
        {"reason": "b"},
        {"fighting": True},
    ],
    ids=lambda different: next(iter(different)),
)
def test_each_thing_that_a_person_wants_to_hear_of_is_news(
    world: World, different: dict[str, object]
) -> None:
    status = world.seen()
    assert status._replace(**different).news != status.news  # type: ignore[arg-type]
    assert status._replace(since=0.0, repairs=9, next_try=1.0).news == status.news


def test_a_dangling_link_is_kept_and_taken_up(world: World) -> None:
    world.target.rmdir()
    world.look()
    assert world.right()
    assert world.seen().state == "dangling"
    world.target.mkdir()
    (change,) = world.look()
    assert (change.after.state, change.repair) == ("ok", None)


def test_another_symlink_is_exchanged_and_its_text_is_recorded(world: World) -> None:
    world.look()
    world.replace("/other")
    (change,) = world.look()
    assert world.right()
    assert change.repair
    assert (change.repair.found, change.repair.old) == ("wrong", "/other")


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_anything_else_is_left_alone_said_once_and_taken_up(world: World, kind: str) -> None:
    if kind == "file":
        world.path.write_text("precious")
    else:
        world.path.mkdir()
        (world.path / "file").write_text("precious")
    (change,) = world.look()
    assert change.after.state == "blocked"
    assert world.look() == [], "said once"
    file = world.path if kind == "file" else world.path / "file"
    assert file.read_text() == "precious"
    assert str(world.path) in str(change.after.reason)
    world.path.rename(world.top / "away")
    (change,) = world.look()
    assert (change.after.state, world.right()) == ("ok", True)


def test_what_is_no_symlink_is_not_even_moved_away_for_a_moment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange would put it back, but whoever opens it in between would find a directory."""

    def never(link: Link) -> str:
        raise AssertionError(link)

    monkeypatch.setattr(keeper, "exchange", never)
    world.path.write_text("precious")
    assert world.seen().state == "blocked"


def test_a_parent_of_root_s_is_made(world: World) -> None:
    world.parent.rmdir()
    world.look()
    assert world.right()
    assert world.parent.stat().st_mode & 0o7777 == 0o755


def test_a_grandparent_is_awaited(scratch: Path) -> None:
    kept = Keeper(lambda: 0.0)
    kept.want([Link("one", str(scratch / "a/b/link"), "/t")])
    kept.look(["one"], 0.0)
    (status,) = kept.statuses()
    assert status.state == "waiting"
    assert f"and it is not made: No such file or directory: {scratch}/a/b" in str(status.reason)
    assert os.listdir(scratch) == []
    assert kept.deadline() is None, "an event tells"


def test_links_that_are_kept_no_more_stay(world: World) -> None:
    world.look()
    assert world.keeper.want([]) == (world.link,)
    assert world.right()
    world.path.unlink()
    assert world.look() == []
    assert not os.path.lexists(world.path)


def test_a_configuration_that_is_read_again_forgets_nothing(world: World) -> None:
    _replaced_eleven_times(world)
    before, deadline = world.keeper.statuses(), world.keeper.deadline()
    assert deadline
    assert world.keeper.want([world.link]) == ()
    assert (world.keeper.statuses(), world.keeper.deadline()) == (before, deadline)


def test_what_was_done_to_a_link_that_is_kept_no_more_is_not_remembered(world: World) -> None:
    """Where a reload comes between, and the mending before it could not be told of."""
    outcomes = world.keeper.mend(["one"], world.now)
    world.keeper.want([])
    assert world.keeper.record(outcomes, world.now) == []


def test_nobody_waits_for_a_link_that_is_kept_no_more(world: World) -> None:
    _replaced_eleven_times(world)
    world.keeper.want([])
    assert (world.keeper.deadline(), world.keeper.due(world.now + 100)) == (None, [])


# --- first sight -----------------------------------------------------------------------------


@pytest.fixture
def outside() -> Iterator[World]:
    """A link that isn't below /run, in a directory that only root decides about."""
    top = Path(tempfile.mkdtemp(prefix="ovl-linkd-test-", dir="/var/lib"))
    top.chmod(0o755)
    yield World(top)
    shutil.rmtree(top)


def test_a_foreign_symlink_outside_run_is_blocked_until_it_is_adopted(outside: World) -> None:
    """`path: /bin` is a typing error that a machine wouldn't survive."""
    outside.replace("/usr/bin")
    seen = outside.seen()
    assert seen.state == "blocked"
    assert seen.reason == "the symlink leads to /usr/bin, and was there before the daemon"
    assert seen.remedy == "ovl-linkd repair one --adopt"
    assert os.readlink(outside.path) == "/usr/bin"

    outside.keeper.insist(["one"], outside.now)
    assert os.readlink(outside.path) == "/usr/bin", "insisting alone is no adoption"
    outside.keeper.insist(["one"], outside.now, adopt=True)
    assert outside.right()


def test_our_own_link_outside_run_is_put_right_when_it_is_replaced(outside: World) -> None:
    outside.look()
    outside.replace()
    outside.look()
    assert outside.right()


def test_our_own_link_is_ours_though_its_target_isn_t_there_yet(outside: World) -> None:
    outside.target.rmdir()
    outside.look()
    outside.replace()
    outside.look()
    assert outside.right()


def test_a_foreign_symlink_in_run_is_replaced(world: World) -> None:
    world.replace()
    world.look()
    assert world.right()


def test_what_an_earlier_run_kept_there_is_no_first_sight(outside: World) -> None:
    """The configuration has a new target, and the daemon was started anew."""
    outside.keeper = Keeper(lambda: 0.0, {str(outside.path): "/old/target"})
    outside.keeper.want([outside.link])
    outside.replace("/old/target")
    outside.look()
    assert outside.right()


def test_what_an_earlier_run_kept_is_no_excuse_for_another_symlink(outside: World) -> None:
    """Which was put there while no daemon ran."""
    outside.keeper = Keeper(lambda: 0.0, {str(outside.path): "/old/target"})
    outside.keeper.want([outside.link])
    outside.replace("/usr/bin")
    assert outside.seen().state == "blocked"
    assert os.readlink(outside.path) == "/usr/bin"


def test_a_repair_without_adoption_makes_our_own_link_no_foreign_one(outside: World) -> None:
    outside.look()
    outside.replace()
    outside.keeper.insist(["one"], outside.now)
    assert outside.right()


def test_a_new_target_for_our_own_link_is_no_first_sight(outside: World) -> None:
    outside.look()
    new = outside.link._replace(target=str(outside.top / "p"))
    outside.keeper.want([new])
    outside.look()
    assert os.readlink(outside.path) == new.target


def test_a_new_target_makes_no_link_of_ours_of_a_foreign_one(outside: World) -> None:
    outside.replace("/usr/bin")
    outside.look()
    outside.keeper.want([outside.link._replace(target=str(outside.top / "p"))])
    assert outside.seen().state == "blocked"
    assert os.readlink(outside.path) == "/usr/bin"


def test_a_link_that_takes_over_a_name_doesn_t_take_over_the_trust(outside: World) -> None:
    outside.look()
    other = outside.top / "other"
    other.symlink_to("/usr/bin")
    outside.keeper.want([outside.link._replace(path=str(other))])
    assert outside.seen().state == "blocked"
    assert os.readlink(other) == "/usr/bin"


# --- fights ----------------------------------------------------------------------------------


def _replaced_eleven_times(world: World) -> list[Change]:
    """The beginning of a fight: ten are answered at once, the eleventh isn't."""
    world.look()
    changes = []
    for number in range(11):
        world.replace(f"/elsewhere{number}")
        changes += world.look(after=0.5)
    return changes


def test_ten_replacements_in_ten_seconds_are_no_fight(world: World) -> None:
    world.look()
    for _ in range(10):
        world.replace()
        world.look(after=0.9)
        assert world.right()
    assert not world.seen().fighting


def test_eleven_replacements_over_more_than_ten_seconds_are_no_fight(world: World) -> None:
    world.look()
    for _ in range(50):
        world.replace()
        world.look(after=1.1)
        assert world.right()
    assert not world.seen().fighting


def test_the_eleventh_within_ten_seconds_begins_a_fight_and_that_is_one_change(
    world: World,
) -> None:
    changes = _replaced_eleven_times(world)
    assert [change.after.fighting for change in changes] == [False] * 10 + [True]
    last = changes[-1]
    assert (last.after.state, last.repair) == ("wrong", None)
    assert last.after.next_try == world.now + 0.25
    assert "somebody keeps replacing" in str(last.after.reason)
    assert f"find out what replaces {world.path}" in str(last.after.remedy)
    assert os.readlink(world.path) == "/elsewhere10"
    assert world.look() == [], "and it is said once"


def test_pauses_double_up_to_thirty_seconds(world: World) -> None:
    _replaced_eleven_times(world)
    pauses = []
    for number in range(10):
        (status,) = world.keeper.statuses()
        assert status.next_try is not None
        pauses.append(status.next_try - world.now)
        assert world.keeper.deadline() == status.next_try
        world.look(after=pauses[-1] - 0.001)
        assert not world.right(), "too early"
        world.now = status.next_try
        assert world.keeper.due(world.now) == ["one"]
        world.look()
        assert world.right()
        world.replace(f"/again{number}")
        world.look()
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_eleventh_is_still_a_fight_when_ten_seconds_are_just_over(world: World) -> None:
    world.look()
    for _ in range(11):
        world.replace()
        world.look(after=1.0)
    assert world.seen().fighting


def test_a_fight_is_noticed_however_often_the_link_was_replaced_before(world: World) -> None:
    world.look()
    for _ in range(50):
        world.replace()
        world.look(after=1.1)
    _replaced_eleven_times(world)
    assert world.seen().fighting


def test_what_was_answered_waits_for_no_answer(world: World) -> None:
    """It was replaced once more before it was recorded: nothing is due for the one before."""
    _replaced_eleven_times(world)
    world.now = world.keeper.deadline() or 0.0
    outcomes = world.keeper.mend(["one"], world.now)
    assert world.right()
    world.replace()
    world.keeper.record(outcomes, world.now)
    deadline = world.keeper.deadline()
    assert deadline is None or deadline > world.now


def test_a_rivalry_is_over_once_no_replacement_can_count_any_more() -> None:
    """Who forgets it then forgets nothing."""
    rivalry = Rivalry()
    assert rivalry.over(100.0)
    rivalry.may_answer(90.0)
    rivalry.may_answer(100.0)
    assert [rivalry.over(now) for now in (101.0, 110.0, 110.5)] == [False, False, True]
    for _ in range(11):
        rivalry.may_answer(200.0)
    assert not rivalry.over(230.0), "a fight goes on"


def test_sixty_quiet_seconds_end_a_fight_and_that_is_one_change(world: World) -> None:
    _replaced_eleven_times(world)
    began = world.now
    world.look(after=0.25)
    assert world.right()
    assert world.seen().fighting
    quiet = world.keeper.deadline()
    assert quiet is not None
    assert began < quiet <= world.now + 60
    assert world.look(after=quiet - world.now - 0.001) == []
    world.now = quiet
    assert world.keeper.due(quiet) == ["one"]
    (change,) = world.look()
    assert (change.after.fighting, change.after.state) == (False, "ok")
    assert world.keeper.deadline() is None
    world.replace()
    world.look()
    assert world.right(), "the pauses are forgotten"


def test_a_missing_link_is_made_at_once_even_in_a_fight(world: World) -> None:
    _replaced_eleven_times(world)
    world.path.unlink()
    world.look()
    assert world.right()


def test_a_pause_that_nobody_waited_for_makes_the_next_one_no_longer(world: World) -> None:
    """A rival that also removes the link, which is made again at once, ended one pause after the
    other: they were thirty seconds long within a moment, and the wrong link stayed for as long.
    """
    _replaced_eleven_times(world)
    for number in range(10):
        (status,) = world.keeper.statuses()
        assert status.next_try == world.now + 0.25
        world.path.unlink()
        world.look(after=0.01)
        assert world.right()
        world.replace(f"/again{number}")
        world.look()
        assert not world.right()


@pytest.mark.parametrize("what", ["right", "file", "no parent"])
def test_a_pause_that_is_over_is_over_whatever_is_there_then(world: World, what: str) -> None:
    """A time in the past that is never taken away makes a timer that does nothing but fire."""
    _replaced_eleven_times(world)
    world.path.unlink()
    if what == "right":
        world.look()
        assert world.right()
    elif what == "file":
        world.path.touch()
    else:
        world.parent.rmdir()
        world.parent.touch()
    world.look(after=0.25)
    deadline = world.keeper.deadline()
    assert deadline is None or deadline > world.now
    (status,) = world.keeper.statuses()
    assert status.next_try is None or status.next_try > world.now


def test_a_person_who_insists_needs_not_wait(world: World) -> None:
    _replaced_eleven_times(world)
    world.keeper.insist(["unknown", "one"], world.now)
    assert world.right()


def test_a_person_who_insists_when_a_fight_begins_needs_not_wait_either(world: World) -> None:
    world.look()
    for _ in range(11):
        world.replace()
        world.keeper.insist(["one"], world.now)
        assert world.right()


# --- failures --------------------------------------------------------------------------------


def _pauses_until(world: World, mend: Callable[[], None]) -> list[float]:
    """The pauses between six attempts that fail; then MEND, and one that doesn't."""
    pauses = []
    for _ in range(9):
        status = world.seen()
        assert (status.state, world.right()) == ("failing", False)
        assert status.reason
        assert status.remedy
        deadline = world.keeper.deadline()
        assert deadline is not None
        assert status.next_try == deadline
        pauses.append(deadline - world.now)
        assert world.look() == [], "the same failure is said once"
        assert world.keeper.deadline() == deadline, "looking early doesn't lengthen the pause"
        world.now = deadline
        assert world.keeper.due(world.now) == ["one"]
    mend()
    world.look()
    assert world.right()
    assert world.keeper.deadline() is None
    return pauses


def test_a_read_only_file_system_is_tried_with_growing_pauses(world: World) -> None:
    mount("t", world.parent, "tmpfs", MS_RDONLY, "mode=0755")
    pauses = _pauses_until(world, lambda: mount("t", world.parent, "tmpfs", MS_REMOUNT))
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert "Read-only file system" not in str(world.seen().reason)


def test_a_full_file_system_is_failing_and_says_what_to_free(world: World) -> None:
    mount("t", world.parent, "tmpfs", 0, "mode=0755,nr_inodes=2")
    (world.parent / "full").touch()
    status = world.seen()
    assert status.state == "failing"
    assert "No space left" in str(status.reason)
    assert "inodes" in str(status.remedy)
    _pauses_until(world, (world.parent / "full").unlink)
    world.replace()
    assert world.seen().state == "failing", "an exchange needs an inode more than the link"
    assert os.listdir(world.parent) == ["link"]


def test_a_replacement_that_can_t_be_answered_is_one_however_often_it_is_looked_at(
    world: World,
) -> None:
    """It was said that somebody keeps replacing the link, and not what is the matter."""
    mount("t", world.parent, "tmpfs", 0, "mode=0755,nr_inodes=2")
    world.replace()
    for _ in range(20):
        world.look(after=0.1)
        status = world.seen()
        assert (status.state, status.fighting) == ("failing", False)
    mount("t", world.parent, "tmpfs", MS_REMOUNT, "mode=0755,nr_inodes=3")
    world.look()
    assert world.right()


def test_after_a_person_has_insisted_the_pauses_begin_anew(world: World) -> None:
    mount("t", world.parent, "tmpfs", MS_RDONLY, "mode=0755")
    for _ in range(5):
        world.look()
        world.now = world.keeper.deadline() or world.now
    world.keeper.insist(["one"], world.now)
    assert world.keeper.deadline() == world.now + 0.25


def test_each_link_is_tried_again_at_its_own_time(scratch: Path) -> None:
    mount("t", scratch, "tmpfs", MS_RDONLY, "mode=0755")
    kept = Keeper(lambda: 0.0)
    kept.want([Link(name, str(scratch / name), "/t") for name in ("early", "late")])
    kept.look(["late"], 100.125)
    kept.look(["early"], 100.0)
    assert kept.deadline() == 100.25
    assert kept.due(100.125) == []
    assert kept.due(100.25) == ["early"]
    assert set(kept.due(100.375)) == {"early", "late"}


@pytest.mark.parametrize("state", ["missing", "wrong"])
def test_what_happened_after_the_repair_is_looked_at_again_soon(world: World, state: str) -> None:
    """The events of a storm are mended before any is recorded; the last one may have been lost."""
    outcomes = world.keeper.mend(["one"], world.now)
    world.path.unlink()
    if state == "wrong":
        world.replace()
    (change,) = world.keeper.record(outcomes, world.now)
    assert (change.after.state, world.keeper.deadline()) == (state, world.now + 0.25)


def test_what_stood_in_the_way_for_a_moment_does_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(link: Link) -> None:
        monkeypatch.undo()
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), link.path)

    monkeypatch.setattr(keeper, "create", create)
    world.look()
    assert world.right()


@pytest.mark.parametrize(
    ("error", "state"), [(FileExistsError, "blocked"), (FileNotFoundError, "ok")]
)
def test_what_changed_during_an_exchange_is_looked_at_again(
    world: World, error: type[OSError], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody put a file there, or took the wrong link away."""

    def exchange(_: Link) -> str:
        monkeypatch.undo()
        world.path.unlink()
        if error is FileExistsError:
            world.path.write_text("precious")
        raise error

    monkeypatch.setattr(keeper, "exchange", exchange)
    world.replace()
    assert (world.seen().state, world.right()) == (state, state == "ok")


def test_a_parent_that_came_meanwhile_is_no_more_awaited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create_parent(_: Link) -> str:
        world.parent.mkdir()
        return "No such file or directory"

    monkeypatch.setattr(keeper, "create_parent", create_parent)
    world.parent.rmdir()
    status = world.seen()
    assert (status.state, status.reason) == ("missing", f"nothing at {world.path}")
    assert world.keeper.deadline() == world.now + 0.25


def test_a_path_that_changes_at_each_look_is_looked_at_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a rival is quicker, others get their turn."""

    def exchange(_: Link) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(keeper, "exchange", exchange)
    world.replace()
    assert world.seen().state == "wrong"
    assert world.keeper.deadline() == world.now + 0.25


def test_a_parent_that_can_t_be_made_for_want_of_space_is_failing(scratch: Path) -> None:
    """EROFS and ENOSPC are no reason to wait for an event: none tells when they are over."""
    mount("t", scratch, "tmpfs", MS_RDONLY, "mode=0755")
    kept = Keeper(lambda: 0.0)
    kept.want([Link("one", str(scratch / "p/link"), "/t")])
    kept.look(["one"], 0.0)
    (status,) = kept.statuses()
    assert kept.deadline() is not None, f"never tried again; {status.state}: {status.reason}"
    mount("t", scratch, "tmpfs", MS_REMOUNT)
    kept.look(["one"], 1.0)
    assert os.readlink(scratch / "p/link") == "/t"
    umount(scratch)


def test_another_user_s_lack_of_rights_is_failing(world: World) -> None:
    def look() -> tuple[str, str]:
        world.look()
        (status,) = world.keeper.statuses()
        return status.state, str(status.reason)

    state, reason = as_user(NOBODY, look)
    assert state == "failing"
    assert "Permission denied" in reason
    assert not os.path.lexists(world.path)


# --- directories of others -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "mode"), [(NOBODY, 0o755), (0, 0o777), (0, 0o1777)], ids=["owner", "writable", "sticky"]
)
def test_a_link_is_not_made_where_others_decide(world: World, uid: int, mode: int) -> None:
    """Found at each repair: the directory may have been given away since the configuration."""
    world.look()
    world.path.unlink()
    os.chown(world.parent, uid, 0)
    world.parent.chmod(mode)
    status = world.seen()
    assert status.state == "blocked"
    assert str(status.reason).startswith((f"{world.parent} belongs to", f"{world.parent} is writ"))
    assert "allow-unsafe-parent" in str(status.remedy)
    assert not os.path.lexists(world.path)

    world.keeper.want([world.link._replace(allow_unsafe_parent=True)])
    world.look()
    assert world.right()


@pytest.mark.parametrize(
    ("guard", "remedy"),
    [("none", "chattr -a {}"), ("append-only", "systemctl reload ovl-linkd-guard")],
)
def test_in_a_directory_that_is_append_only(world: World, guard: str, remedy: str) -> None:
    """Nothing can be replaced there, and no temporary name removed again."""
    world.keeper.want([world.link._replace(guard=guard)])
    world.look()
    world.replace()
    set_append_only(str(world.parent), wanted=True)
    try:
        status = world.seen()
        assert (status.state, status.remedy) == ("failing", remedy.format(world.parent))
        assert "the symlink leads to /elsewhere, and can't be replaced" in str(status.reason)
        assert os.listdir(world.parent) == ["link"]
    finally:
        set_append_only(str(world.parent), wanted=False)
    world.look()
    assert world.right()


def test_no_symlink_of_theirs_is_followed_where_an_unsafe_parent_is_allowed(world: World) -> None:
    """Who owns an ancestor could have the link made in any directory of root's."""
    world.keeper.want([world.link._replace(allow_unsafe_parent=True)])
    world.look()
    victim = world.top / "victim"
    victim.mkdir()
    away = world.parent.rename(world.top / "away")
    world.parent.symlink_to(victim)
    os.chown(world.parent, NOBODY, NOBODY, follow_symlinks=False)
    status = world.seen()
    assert (status.state, os.listdir(victim)) == ("failing", [])
    assert f"not followed: {world.parent}" in str(status.reason)
    assert status.next_try

    world.parent.unlink()
    away.rename(world.parent)
    assert world.seen().state == "ok"


def test_a_link_that_is_right_is_ok_wherever_it_is(world: World) -> None:
    world.look()
    world.parent.chmod(0o777)
    assert world.seen().state == "ok"


def test_a_link_that_says_what_it_should_is_not_blocked_for_want_of_its_target(
    world: World,
) -> None:
    world.look()
    world.target.rmdir()
    world.parent.chmod(0o777)
    assert world.seen().state == "dangling"


def test_a_wrong_link_where_others_decide_is_left_as_it_is(world: World) -> None:
    world.look()
    world.replace()
    world.parent.chmod(0o777)
    assert world.seen().state == "blocked"
    assert os.readlink(world.path) == "/elsewhere"


def test_an_ancestor_that_became_somebody_s_symlink_is_not_followed(world: World) -> None:
    """The parent is exchanged for a symlink to a directory that root would never write in."""
    world.look()
    theirs = world.top / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    world.parent.rename(world.top / "away")
    world.parent.symlink_to(theirs)
    assert world.seen().state == "blocked"
    assert os.listdir(theirs) == []


def test_nothing_half_done_is_swept_where_others_decide(world: World) -> None:
    spare = world.parent / ".link.ovl-linkd"
    spare.symlink_to("/elsewhere")
    world.parent.chmod(0o777)
    assert world.keeper.sweep() == []
    assert spare.is_symlink()
    world.parent.chmod(0o755)
    assert world.keeper.sweep() == []
    assert not os.path.lexists(spare)


def test_it_is_swept_there_where_that_is_allowed(world: World) -> None:
    spare = world.parent / ".link.ovl-linkd"
    spare.symlink_to("/elsewhere")
    world.parent.chmod(0o777)
    world.keeper.want([world.link._replace(allow_unsafe_parent=True)])
    assert world.keeper.sweep() == []
    assert not os.path.lexists(spare)


def test_what_can_t_be_swept_is_told_and_costs_no_other(world: World) -> None:
    other = world.link._replace(name="two", path=str(world.top / "link"))
    world.keeper.want([world.link, other])
    mount("t", world.parent, "tmpfs", 0, "mode=0755")
    for parent in (world.parent, world.top):
        (parent / ".link.ovl-linkd").symlink_to("/elsewhere")
    mount("t", world.parent, "tmpfs", MS_REMOUNT | MS_RDONLY)
    ((link, error),) = world.keeper.sweep()
    assert (link, error.errno) == (world.link, errno.EROFS)
    assert not os.path.lexists(world.top / ".link.ovl-linkd")


# --- many ------------------------------------------------------------------------------------


def test_several_events_of_one_link_are_one_record_of_each_repair(world: World) -> None:
    world.look()
    world.path.unlink()
    outcomes = world.keeper.mend(["one", "unknown"], world.now)
    outcomes += world.keeper.mend(["one", "one"], world.now)
    changes = world.keeper.record(outcomes, world.now)
    assert [change.repair is not None for change in changes] == [True]
    assert changes[0].after.repairs == 2


def test_however_many_its_events_a_link_is_looked_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.look()
    looks = []

    def counted(link: Link) -> Observation:
        looks.append(link.name)
        return observe(link)

    monkeypatch.setattr(keeper, "observe", counted)
    outcomes = world.keeper.mend(["one"] * 10, world.now)
    world.path.unlink()
    outcomes += world.keeper.mend(["one"], world.now)
    world.keeper.record(outcomes, world.now)
    assert looks == ["one"]


def test_one_bad_link_costs_no_other(scratch: Path) -> None:
    (scratch / "file").touch()
    (scratch / "taken").mkdir()
    paths = {"a": "file/x", "b": "no/where/x", "c": "taken", "d": "good"}
    kept = Keeper(lambda: 0.0)
    kept.want([Link(name, str(scratch / path), "/run") for name, path in paths.items()])
    kept.look(kept.names, 0.0)
    states = {status.link.name: status.state for status in kept.statuses()}
    assert states == {"a": "waiting", "b": "waiting", "c": "blocked", "d": "ok"}
