"""The farm on a real directory, with a clock of the test's own."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovl_linkd.links import ids, leases, ledger
from ovl_linkd.links.farm import TURN, Farm
from ovl_linkd.links.leases import BLOCK, LAG, Leases
from ovl_linkd.links.terms import Full, NotALayer, Unusable
from tests.crashing import Crash, crashing, failing
from tests.daemon.world import MS_REMOUNT, mount
from tests.farms import KEEP, NOW, World

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def world(scratch: Path) -> World:
    return World(scratch)


def test_an_id_has_one_spelling() -> None:
    """Else one entry could be met under two names, and `01` be given though `1` was."""
    names = [ids.name(number) for number in range(1, 5_000)]
    assert names[:3] == ["1", "2", "3"]
    assert names[60:63] == ["z", "10", "11"]
    assert [ids.number(name) for name in names] == list(range(1, 5_000))
    assert ids.number(ids.name(2**64)) == 2**64
    assert ids.highest([*names, "0zzzz", ".zzzz", "lost+found", "zzzz"], 5_000) == 4_999
    assert ids.highest(names, 70) == 70
    assert ids.highest([".x", "_"], 5_000) == ids.highest([], 1) == 0
    for other in ("", "0", "01", "a-b", "ä", "x" * 12, ".1", "1 "):
        assert ids.number(other) is None


def test_a_farm_whose_parent_is_missing_at_first_is_awaited(world: World) -> None:
    """Nothing failed: its file system isn't mounted yet, perhaps. It said `No such file`."""
    world.path = world.top / "above/f"
    world.start()
    with pytest.raises(Unusable, match=f"f is not made: no directory {world.top}/above"):
        world.lease("a")
    assert world.trouble() == "waiting"
    assert world.next(NOW) is None, "an event tells"
    world.path.parent.mkdir()
    assert world.leads(*world.lease("a")) == "a"
    assert world.trouble() is None


# -- leasing ----------------------------------------------------------------------------------


def test_one_directory_has_one_entry_however_it_is_spelt(world: World) -> None:
    (name,) = world.lease("a")
    path = world.layer("a")
    for spelling in (path, f"{path}/", path.replace("/", "//"), f"{path}/.", f"/.{path}//"):
        assert world.farm.lease([spelling], NOW) == [f"{world.path}/{name}"]
    # What `..` leads to is the kernel's to say: behind a symlink it is another directory.
    assert world.farm.lease([f"{path}/../a"], NOW) == [f"{world.path}/2"]


def test_ids_stay_short_and_a_restart_costs_less_than_a_block_of_them(world: World) -> None:
    assert world.lease(*range(3)) == ["1", "2", "3"]
    for _ in range(3):
        world.start()
        world.lease("other")
    (name,) = world.lease("more")
    assert (ids.number(name) or 0) <= 4 + 3 * BLOCK


def test_all_or_nothing(world: World) -> None:
    world.lease("a")
    world.farm.want(world.farm.wanted._replace(most=2))
    with pytest.raises(NotALayer):
        world.farm.lease([world.layer("b"), "/none"], NOW)
    with pytest.raises(Full):
        world.lease("b", "c")
    assert os.listdir(world.path) == ["1"]
    assert world.lease("b") == ["2"]


@pytest.mark.parametrize("path", ["", "a", "\0", "/a\0b", "/\ud800"])
def test_what_no_system_call_takes_is_refused(world: World, path: str) -> None:
    with pytest.raises(NotALayer):
        world.farm.lease([path], NOW)


def test_something_else_under_a_name_that_is_next_stays_and_is_passed_over(world: World) -> None:
    world.lease("a")
    (world.path / "2").write_text("precious")
    (world.path / "3").symlink_to("/elsewhere")
    assert world.lease("b") == ["4"]
    world.settle(NOW + 2 * KEEP)
    assert (world.path / "2").read_text() == "precious"
    assert world.leads("3") == "elsewhere"


def test_a_file_in_the_place_of_an_entry_stays_and_the_layer_gets_another(world: World) -> None:
    (name,) = world.lease("a")
    (world.path / name).unlink()
    (world.path / name).write_text("precious")
    world.farm.mend([name], NOW)
    assert world.trouble() == "blocked"
    (other,) = world.lease("a")
    assert other != name
    assert world.leads(other) == "a"
    assert world.trouble() is None
    assert (world.path / name).read_text() == "precious"


@pytest.mark.parametrize("what", ["file", "symlink"])
def test_what_comes_in_the_place_of_a_new_entry_at_the_last_moment(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """When it has been seen that nothing is there, and the id is written down."""

    def append(self: ledger.Ledger, lines: list[str], certain: bool = False) -> None:
        write_down(self, lines, certain)
        if lines[0].startswith("+1 ") and what == "file":
            (world.path / "1").write_text("precious")
        elif lines[0].startswith("+1 "):
            (world.path / "1").symlink_to("/elsewhere")

    write_down = ledger.Ledger.append
    monkeypatch.setattr(ledger.Ledger, "append", append)
    if what == "file":
        with pytest.raises(Unusable, match="File exists"):
            world.lease("a")
        assert (world.path / "1").read_text() == "precious"
    else:
        assert world.lease("a") == ["1"]
        assert world.leads("1") == "a"


def test_a_full_farm_first_lets_go_of_what_is_over(world: World) -> None:
    world.start(most=2)
    world.lease("a", "b")
    assert world.lease("b", now=NOW + KEEP / 2) == ["2"]
    assert world.lease("c", now=NOW + KEEP) == ["3"]
    assert sorted(os.listdir(world.path)) == ["2", "3"]


def test_who_asks_again_in_a_full_farm_has_nothing_let_go(world: World) -> None:
    """It needs no room. A thousand entries were looked at each time, for what could make some."""
    world.start(most=2)
    world.lease("a", "b")
    assert world.lease("b", now=NOW + KEEP) == ["2"]
    assert sorted(os.listdir(world.path)) == ["1", "2"]
    world.settle(NOW + KEEP + 60)
    assert os.listdir(world.path) == ["2"]


def test_in_a_farm_that_may_be_smaller_now_who_asks_again_is_answered(world: World) -> None:
    """Or after a reload with a smaller max-entries nobody got what lies there."""
    names = world.lease("a", "b", "c")
    world.farm.want(world.farm.wanted._replace(most=2))
    assert world.lease("a", "b", "c", now=NOW + 1) == names
    with pytest.raises(Full):
        world.lease("a", "d", now=NOW + 1)
    (world.path / names[0]).unlink()
    (world.path / names[0]).mkdir()
    assert world.lease("a", now=NOW + 1) == ["4"], "in the place of one that is lost"
    assert world.lease("b", now=NOW + KEEP + 1) == ["2"]
    assert world.lease("d", now=NOW + KEEP + 1) == ["5"]
    assert world.farm.status().entries == 2


def test_an_expiry_looks_no_further_than_at_the_first_that_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in the order of their times, and there may be a hundred thousand."""
    world.start(most=6)
    world.lease("a", "b")
    world.lease(*"cdef", now=NOW + 1)
    seen: list[str] = []

    def looked_at(leases: Leases) -> Iterator[ledger.Lease]:
        for lease in each(leases):
            seen.append(lease.id)
            yield lease

    each = Leases.__iter__
    monkeypatch.setattr(Leases, "__iter__", looked_at)
    assert world.lease("g", now=NOW + KEEP) == ["7"]
    assert seen == ["1", "2", "3"]


def _have_lead_elsewhere(world: World, name: str) -> None:
    (world.path / name).unlink()
    (world.path / name).symlink_to("/elsewhere")


def test_a_fight_over_an_entry_is_answered_after_pauses(world: World) -> None:
    """A hundred times a second it would cost a processor, and never end."""
    (name,) = world.lease("a")

    def replace(now: float) -> bool:
        _have_lead_elsewhere(world, name)
        return world.farm.mend([name], now) == 1

    answers = [replace(NOW + at / 100) for at in range(100)]
    assert answers[:10] == [True] * 10
    assert sum(answers) < 15
    trouble = world.farm.status().trouble
    assert trouble is not None
    assert (trouble.state, "keeps replacing" in trouble.reason) == ("wrong", True)
    assert world.lease("a", now=NOW + 1) == [name], "who asks for it is not made to wait"
    assert world.leads(name) == "a"
    world.settle(NOW + 100)
    assert replace(NOW + 100)
    assert world.trouble() is None


def test_who_asks_for_an_entry_when_a_fight_over_it_begins_gets_it_all_the_same(
    world: World,
) -> None:
    """Its layer got another id, and nobody kept the old one, which options held, any more."""
    names = world.lease("a")
    for _ in range(11):
        _have_lead_elsewhere(world, *names)
        assert world.lease("a") == names
        assert world.leads(*names) == "a"


def test_an_entry_that_can_t_be_put_right_is_not_fought_over_and_keeps_its_id(
    world: World,
) -> None:
    """Each attempt passed for one more replacement; then as above."""
    world.path.mkdir()
    mount("t", world.path, "tmpfs", 0, "mode=0755,nr_inodes=2")
    names = world.lease("a")
    _have_lead_elsewhere(world, *names)
    for tenth in range(20):
        with pytest.raises(Unusable, match="No space left"):
            world.lease("a", now=NOW + tenth / 10)
    mount("t", world.path, "tmpfs", MS_REMOUNT, "mode=0755,nr_inodes=3")
    world.settle(NOW + 60)
    assert world.leads(*names) == "a"
    assert world.lease("a", now=NOW + 60) == names


def test_an_entry_that_can_t_be_read_is_looked_at_again_before_the_resync(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was replaced, and nothing that happens later makes another event."""
    (a,) = world.lease("a")
    (world.path / a).unlink()
    (world.path / a).symlink_to("elsewhere")
    tried = 0

    def refuse(path: str) -> str:
        nonlocal tried
        tried += 1
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "readlink", refuse)
        world.farm.mend([a], NOW)
        for second in range(60):
            world.settle(NOW + second)
            assert world.trouble() == "failing"
    assert tried < 60
    world.settle(NOW + 100)
    assert (world.leads(a), world.trouble()) == ("a", None)


def test_what_fails_is_tried_again_after_growing_pauses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where most of the entries are right, and the one that isn't comes last."""
    names = world.lease(*range(2 * TURN + 10))
    (world.path / names[0]).unlink()
    symlink = os.symlink
    tried = 0

    def refuse(*_arguments: str) -> None:
        nonlocal tried
        tried += 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(world.path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "symlink", refuse)
        world.farm.mend([names[0]], NOW)
        assert world.trouble() == "failing"
        for second in range(120):
            world.settle(NOW + second)
        assert world.trouble() == "failing"
    assert tried < 15
    assert os.symlink is symlink
    world.settle(NOW + 200)
    assert world.trouble() is None
    assert world.leads(names[0]) == "0"


# -- time -------------------------------------------------------------------------------------


def test_an_entry_stays_for_as_long_as_it_was_promised_and_goes_then(world: World) -> None:
    (a, b) = world.lease("a", "b")
    world.lease("b", now=NOW + 100)
    world.settle(NOW + KEEP - 1)
    assert (world.leads(a), world.leads(b)) == ("a", "b")
    world.settle(NOW + KEEP + 61)
    assert (world.leads(a), world.leads(b)) == (None, "b")
    world.settle(NOW + 2 * KEEP)
    assert os.listdir(world.path) == []
    assert world.farm.deadline() is None
    assert world.lease("a", now=NOW + 2 * KEEP) == ["3"], "never again what somebody may hold"


def test_a_restart_shortens_no_promise(world: World) -> None:
    """That an entry was asked for again is written down once in a while only."""
    keep = 160.0
    world.start(keep=keep)
    (a,) = world.lease("a")
    asked = NOW + keep - 1
    world.lease("a", now=asked)
    world.lease("a", now=asked + LAG - 1)
    world.start(keep=keep)
    world.farm.look(asked + LAG)
    world.settle(asked + LAG - 1 + keep)
    assert world.leads(a) == "a"
    world.settle(asked + 3 * keep)
    assert world.leads(a) is None


def test_what_is_over_is_removed_only_if_it_is_ours(world: World) -> None:
    (a, b) = world.lease("a", "b")
    for name in (a, b):
        (world.path / name).unlink()
    (world.path / a).symlink_to("/elsewhere")
    (world.path / b).mkdir()
    world.settle(NOW + 2 * KEEP)
    assert world.farm.status().entries == 0
    assert sorted(os.listdir(world.path)) == [a, b]


def test_a_lasting_farm_lets_nothing_go(world: World) -> None:
    world.start(lasting=True)
    (a,) = world.lease("a")
    assert world.farm.deadline() is None
    world.farm.due(NOW + 100 * KEEP)
    assert world.leads(a) == "a"


def test_what_is_no_more_guarded_goes_once_the_flag_is_off(world: World) -> None:
    """Who takes it off is told after us; to try before would be a failure that is said."""
    world.start(lasting=True)
    (a,) = world.lease("a")
    now = NOW + 2 * KEEP
    world.farm.want(world.farm.wanted._replace(lasting=False))
    world.farm.due(now)
    assert world.leads(a) == "a"
    world.settle(now + 60)
    assert world.leads(a) is None


def test_what_was_never_guarded_goes_as_soon_as_less_is_promised(world: World) -> None:
    (a,) = world.lease("a")
    world.farm.want(world.farm.wanted._replace(keep=10.0))
    world.farm.due(NOW + 10)
    assert world.leads(a) is None


def test_a_reload_tries_again_at_once_what_could_not_be_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a,) = world.lease("a")

    def refuse(path: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        world.farm.due(NOW + KEEP)
    world.farm.due(NOW + KEEP + 1)
    assert world.leads(a) == "a", "not before its time"
    world.farm.want(world.farm.wanted)
    world.farm.due(NOW + KEEP + 1)
    assert world.leads(a) is None


def test_a_reload_takes_the_farm_back_from_another_daemon(world: World) -> None:
    (a,) = world.lease("a")
    ours = world.farm
    world.start()
    world.lease("b")
    with pytest.raises(Unusable, match="second daemon"):
        ours.lease([world.layer("c")], NOW)
    assert ours.ledger_path == str(world.ledger)
    ours.want(ours.wanted)
    assert ours.lease([world.layer("a")], NOW) == [f"{world.path}/{a}"]
    assert ours.status().trouble is None


def test_removal_that_fails_is_tried_again_and_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a,) = world.lease("a")

    def refuse(path: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        world.settle(NOW + KEEP + 61)
        assert world.trouble() == "failing"
        assert "append-only" in (world.farm.status().trouble or ("", "", ""))[2]
    deadline = world.farm.deadline()
    assert deadline is not None
    assert NOW + KEEP + 61 < deadline < NOW + KEEP + 200
    world.settle(deadline)
    assert (world.leads(a), world.trouble()) == (None, None)


# -- the ledger -------------------------------------------------------------------------------


def test_a_farm_that_was_there_in_this_boot_is_no_new_one(world: World) -> None:
    """A cleaner may take directory and ledger while no daemon runs; who leased remembers."""
    world.lease("a")
    shutil.rmtree(world.path)
    world.ledger.unlink()
    world.start(before=True)
    (name,) = world.lease("b")
    assert (ids.number(name) or 0) > NOW * 1_000_000
    assert len(world.farm.notes) == 1


@pytest.mark.parametrize("loss", ["gone", "damaged", "older", "empty"])
def test_without_a_ledger_to_believe_no_id_is_guessed(world: World, loss: str) -> None:
    """Entries that are over left no trace in the directory: `1` lies there, `9` was given, too."""
    names = world.lease(*range(8))
    world.lease("last", now=NOW + KEEP)
    world.settle(NOW + KEEP)
    (world.path / "zz").symlink_to("/a")
    (world.path / "READMEfirst").symlink_to("/b")  # somebody's; no boot gives as many ids
    if loss == "gone":
        world.ledger.unlink()
    elif loss == "older":
        world.ledger.write_text("ovl-linkd farm 1 b1\nmark 3\n")
    else:
        world.ledger.write_bytes(b"" if loss == "empty" else world.ledger.read_bytes() + b"?\n")
    world.start()
    now = NOW + KEEP + 1
    (name,) = world.lease("new", now=now)
    (note,) = world.farm.notes
    assert "ids go on above every one that may have been given" in note
    assert name not in names
    assert (ids.number(name) or 0) > now * 1_000_000 > (ids.number("zz") or 0)
    assert world.leads("9") == "last", "what lies there may be in use, and stays"
    world.start()
    assert world.lease("new", now=now) == [name], "and it is said, and skipped, only once"
    assert not world.farm.notes


def test_a_start_from_nothing_says_nothing(world: World) -> None:
    """A warning at each boot is one that nobody reads any more."""
    world.farm.look(NOW)
    assert (world.farm.notes, world.trouble()) == ([], None)
    assert list(world.path.iterdir()) == []


def test_a_restart_that_leased_nothing_forgets_nothing(world: World) -> None:
    (a,) = world.lease("a")
    for _ in range(3):
        world.start()
        world.farm.look(NOW)
    assert world.lease("a") == [a]
    assert world.farm.status().entries == 1


def test_after_a_restart_too_that_one_goes_first_that_nobody_asked_for_longest(
    world: World,
) -> None:
    world.lease("a", "b")
    world.lease("a", now=NOW + 200)
    world.start()
    world.farm.look(NOW + 300)
    assert world.farm.status().oldest == NOW + LAG
    world.start()
    world.farm.look(NOW + 1)
    assert world.farm.status().oldest == NOW + 1, "nothing was asked for later than now"


def test_a_ledger_that_is_somebody_else_s_is_not_believed(world: World) -> None:
    """He would have us make names that lead where he likes."""
    world.lease("a")
    assert world.ledger.stat().st_mode & 0o7777 == 0o600
    os.chown(world.ledger, 1, 1)
    world.start()
    world.farm.look(NOW)
    (note,) = world.farm.notes
    assert "it belongs to user 1" in note
    assert world.farm.status().entries == 0


def test_it_is_counted_what_was_leased_and_what_is_amiss(world: World) -> None:
    names = world.lease("a", "b")
    world.lease("a")
    assert world.farm.status().leases == 3
    for name in names:
        (world.path / name).unlink()
        (world.path / name).mkdir()
    world.farm.mend(names, NOW)
    trouble = world.farm.status().trouble
    assert trouble is not None
    assert trouble.reason.endswith(", and 1 more")


def test_a_line_that_was_torn_was_never_acted_upon(world: World) -> None:
    """A machine that lost power, or a disk that was full, in the middle of a write."""
    (a,) = world.lease("a")
    with world.ledger.open("ab") as file:
        file.write(b"+2 1000.000 /torn")
    world.start()
    assert world.lease("a") == [a]
    assert not world.farm.notes


def test_the_entries_of_another_boot_are_over_and_their_ids_are_not_given_again(
    world: World,
) -> None:
    """A farm on a disk outlives a boot; its times, and what it promised, don't."""
    world.lease("a", "b")
    (world.path / "x").symlink_to("/mine")
    world.start(boot="b2")
    (name,) = world.lease("a", now=5.0)
    assert (ids.number(name) or 0) > 2
    assert sorted(os.listdir(world.path)) == sorted([name, "x"])
    assert not world.farm.notes


def test_no_id_of_a_boot_is_above_its_microseconds(world: World) -> None:
    """Found by the model: what one boot had skipped to was too high for the next one.

    That one gave ids above its own microseconds, lost its ledger, and then gave them again.
    """
    world.lease("a")
    world.ledger.unlink()
    world.start()
    world.lease("b")
    early = 5.0
    world.start(boot="b2")
    (first,) = world.lease("a", now=early)
    assert (ids.number(first) or 0) < (early + 1) * 1_000_000
    world.ledger.unlink()
    shutil.rmtree(world.path)
    world.start(boot="b2", before=True)
    assert world.lease("c", now=early + 0.01) != [first]


def test_without_a_boot_to_name_nothing_is_leased(world: World) -> None:
    def unknown() -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/proc/boot_id")

    farm = Farm(world.farm.wanted, unknown)
    with pytest.raises(Unusable, match="boot_id"):
        farm.lease([world.layer("a")], NOW)
    assert not world.path.exists()


def test_an_entry_that_can_t_be_read_keeps_its_id(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lease gave its layer another one, and nobody kept those before any more."""
    names = world.lease("a")

    def refuse(path: str) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "readlink", refuse)
        with pytest.raises(Unusable):
            world.lease("a")
    assert world.lease("a") == names


def test_the_ledger_is_not_written_where_others_may_write(world: World) -> None:
    """Under its temporary name a file of theirs was removed, and theirs could take its place."""
    world.lease("a")
    world.ledger.unlink()
    theirs = world.ledger.with_name(f"{world.ledger.name}.new")
    theirs.touch()
    world.ledger.parent.chmod(0o777)
    world.farm.tend(NOW)
    assert theirs.exists()
    assert not world.ledger.exists()
    world.ledger.parent.chmod(0o755)
    world.farm.tend(NOW)
    assert world.ledger.exists()


def test_the_ledger_does_not_grow_without_end(world: World) -> None:
    world.start(keep=0.0)
    for number in range(60):
        now = NOW + 10.0 * number
        world.farm.lease([world.layer(each) for each in range(200)], now)
        world.settle(now + 1)
    assert len(world.ledger.read_bytes().splitlines()) < 12_000
    world.start(keep=0.0)
    assert world.lease("a") != ["1"]


def test_a_ledger_that_somebody_holds_is_waited_for(world: World) -> None:
    """Another daemon that starts, for a moment. Only what it wrote would make the farm its own."""
    (a,) = world.lease("a")
    held = os.open(world.ledger, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    with pytest.raises(Unusable, match="another process is writing it"):
        world.lease("b")
    assert world.trouble() == "failing"
    os.close(held)
    world.settle(NOW + 1)
    assert world.trouble() is None
    assert world.lease("a", "b", now=NOW + 1)[0] == a


def test_who_lost_the_farm_does_not_write_its_ledger(world: World) -> None:
    """It knows nothing of the ids that were given since: they would have been given again."""
    world.lease("a")
    lost = world.farm
    world.start()
    (b,) = world.lease("b")
    with pytest.raises(Unusable, match="second daemon"):
        lost.lease([world.layer("c")], NOW)
    world.ledger.unlink()
    lost.tend(NOW)
    assert not world.ledger.exists()
    world.farm.tend(NOW)
    assert world.lease("b", "c")[0] == b


def test_a_ledger_that_can_t_be_shortened_is_gone_on_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To write it anew takes room for a second one; a line more may well find some."""
    monkeypatch.setattr(leases, "_HISTORY", 10)
    spare = world.ledger.with_name(f"{world.ledger.name}.new")
    (a,) = world.lease("a")
    spare.mkdir()
    for at in range(1, 101):
        assert world.lease("a", now=NOW + 2 * LAG * at) == [a]
    assert world.trouble() is None
    assert len(world.ledger.read_bytes().splitlines()) > 100
    spare.rmdir()
    for at in range(101, 201):
        assert world.lease("a", now=NOW + 2 * LAG * at) == [a]
    assert len(world.ledger.read_bytes().splitlines()) < 100


def test_a_full_disk_leaves_the_ledger_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a,) = world.lease("a")
    before = world.ledger.read_bytes()
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
        with pytest.raises(Unusable, match="No space left"):
            world.lease("b")
    assert world.ledger.read_bytes() == before
    assert world.trouble() == "failing"
    world.settle(NOW + 1)
    assert world.lease("a", "b", now=NOW + 1)[0] == a
    assert world.trouble() is None


def test_what_a_failed_write_left_is_not_another_daemon_s(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is ill doesn't let go of it either: the farm was lost until a reload."""
    (a,) = world.lease("a")
    write = os.write

    def refuse(*_arguments: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
        patch.setattr(os, "ftruncate", refuse)
        for _ in range(2):
            with pytest.raises(Unusable, match=r"No space left|Input/output"):
                world.lease("b")
    assert world.trouble() == "failing"
    world.settle(NOW + 1)
    _, b = world.lease("a", "b", now=NOW + 1)
    assert world.trouble() is None
    world.start()
    assert world.lease("a", "b", now=NOW + 2) == [a, b]
    assert not world.farm.notes


# -- a crash at every step --------------------------------------------------------------------


def _first(world: World) -> None:
    world.lease("a", "b")


def _another(world: World) -> None:
    world.lease("b", "c", "d")


def _a_block(world: World) -> None:
    world.lease(*range(BLOCK + 1))


def _expiry(world: World) -> None:
    world.settle(NOW + KEEP + 61)


def _repairs(world: World) -> None:
    (world.path / "1").unlink()
    (world.path / "2").unlink()
    (world.path / "2").symlink_to("/elsewhere")
    world.farm.mend(["1", "2"], NOW)


def _a_lost_directory(world: World) -> None:
    shutil.rmtree(world.path)
    world.farm.look(NOW)
    world.settle()


def _a_lost_ledger(world: World) -> None:
    world.ledger.unlink()
    world.farm.tend(NOW)
    world.lease("e")


def _a_start(world: World) -> None:
    world.start()
    world.farm.look(NOW)
    world.settle()


def _another_boot(world: World) -> None:
    world.start(boot="b2")
    world.farm.look(NOW)
    world.settle()


Step = Callable[[World], None]
STEPS: list[Step] = [
    _another, _a_block, _expiry, _repairs, _a_lost_directory, _a_lost_ledger, _a_start,
    _another_boot,
]  # fmt: skip


@pytest.mark.parametrize("step", [_first, *STEPS], ids=lambda step: step.__name__.strip("_"))
def test_killed_at_any_moment_it_goes_on_right(scratch: Path, step: Step) -> None:
    """An id that was seen anywhere names its layer, or nothing; and nothing half done is left."""
    for at in range(1, 10_000):
        top = scratch / str(at)
        top.mkdir()
        world = World(top)
        given: dict[str, str] = {}
        if step is not _first:
            given = dict(zip(world.lease("a", "b"), "ab", strict=True))
        try:
            with crashing(at):
                step(world)
        except Crash:
            ended = False
        else:
            ended = True
        given |= _seen(world)
        # Whoever looked meanwhile holds names that the next run must not give to other layers.
        boot = "b2" if step is _another_boot else "b1"
        world.start(boot)
        world.farm.look(NOW + 1)
        world.settle(NOW + 1)
        layers = ["a", "b", "new", "newer"]
        for name, layer in zip(world.lease(*layers, now=NOW + 1), layers, strict=True):
            assert given.get(name, layer) == layer
            assert world.leads(name) == layer
        assert not [name for name in os.listdir(world.path) if name.startswith(".")]
        assert {each.name for each in top.iterdir()} == {"f", ".f.ovl-linkd-farm", "layers"}
        shutil.rmtree(top)
        if ended:
            return
    raise AssertionError("it never came to its end")


ERRORS = (errno.EIO, errno.EMFILE, errno.ENOSPC, errno.EACCES)


def test_a_ledger_that_is_busy_for_a_moment_is_not_another_daemon_s(world: World) -> None:
    """By the number of the error it was taken for that: nothing was leased until a reload."""
    world.lease("a")
    for at in range(1, 100):
        now = NOW + 2 * LAG * at  # so that it is written down again that it was asked for
        refused = contextlib.suppress(Unusable, NotALayer)
        with failing(at, errno.EBUSY) as failed, refused:
            world.lease("a", now=now)
        assert world.leads(*world.lease("a", now=now)) == "a"
        if not failed:
            assert at > 5
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("step", [_first, *STEPS], ids=lambda step: step.__name__.strip("_"))
def test_after_any_error_it_goes_on_by_itself(scratch: Path, step: Step) -> None:
    """A disk that was full for a moment must not need anybody who reloads the daemon."""
    for at in range(1, 10_000):
        top = scratch / str(at)
        top.mkdir()
        world = World(top)
        given: dict[str, str] = {}
        if step is not _first:
            given = dict(zip(world.lease("a", "b"), "ab", strict=True))
        refused = contextlib.suppress(Unusable, NotALayer)
        with failing(at, ERRORS[at % len(ERRORS)]) as failed, refused:
            step(world)
        now = NOW + 2 * KEEP
        world.settle(now)
        layers = ["a", "b", "new"]
        for name, layer in zip(world.lease(*layers, now=now), layers, strict=True):
            assert given.get(name, layer) == layer
            assert world.leads(name) == layer
        world.settle(now + 60)
        assert world.trouble() is None, failed
        shutil.rmtree(top)
        if not failed:
            assert at > 5
            return
    raise AssertionError("it never came to its end")


def _seen(world: World) -> dict[str, str]:
    """The names in the directory, and the layers that they lead to."""
    try:
        names = [name for name in os.listdir(world.path) if ids.number(name)]
    except FileNotFoundError:
        return {}
    found = {name: world.leads(name) for name in names}
    return {name: layer for name, layer in found.items() if layer and layer != "elsewhere"}


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)
