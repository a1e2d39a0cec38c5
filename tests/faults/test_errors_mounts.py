"""Every system call of the commands that mount or write fails, with every error.

As in test_errors.py: `make test` takes one call of each name, with the errors in turn.
"""

import errno
import itertools
import json
import os
from importlib import import_module
from pathlib import Path

import pytest

from ovl_linkd import cli
from ovl_linkd.links.flags import is_append_only, set_append_only
from tests.faults.mounting import LONG, RUNGS, Store, on, ran, without_fsopen
from tests.faults.policies import failures, told
from tests.faults.scene import look
from tests.faults.supervised import Call, go_on

pytestmark = pytest.mark.needs("root")

# As mounting.py does it for mount.overlay.
for _name in (
    *("commands.guard", "commands.rewrite_files", "formats.fstab"),
    *("formats.judging", "formats.mount8"),
):
    import_module(f"ovl_linkd.{_name}")


# --- mount.overlay ---------------------------------------------------------------------------


@pytest.mark.parametrize("rung", RUNGS)
def test_a_call_of_a_mount_fails(scratch: Path, rung: str) -> None:
    """It is there, once and with all its layers, or not at all, and then it is said why."""
    log = scratch / "log.m"
    with on(rung, scratch) as (store, kernel):
        for failure in failures(least=2):
            code, text = ran(store.mount, log, lambda call, f=failure: f(call) or kernel(call))  # type: ignore[misc]
            with told(failure):
                if code == 0:
                    store.take_off()
                    continue
                assert store.mounts() == 0
                assert code in (2, 32, 101)  # 101: the shell script makes a 1 of it
                assert text.startswith("mount.overlay: "), text
                assert os.strerror(failure.number) in text, text
                assert ran(store.mount, log, kernel)[0] == 0
                store.take_off()


@pytest.mark.parametrize(("which", "code"), [(1, 32), (2, 0)])
def test_who_can_t_come_back_does_not_go(scratch: Path, which: int, code: int) -> None:
    """By chdir(2), it was mounted, and said that it wasn't: the next attempt mounted it twice."""
    store, calls = Store(scratch, 70, LONG), itertools.count(1)

    def kernel(call: Call) -> int | None:
        if call.name == "fchdir" and next(calls) == which:
            return errno.EACCES
        return without_fsopen(call)

    assert ran(store.mount, scratch / "log", kernel)[0] == code
    assert store.mounts() == (code == 0)


# --- rewrite --in-place ----------------------------------------------------------------------


def test_a_call_of_a_rewriting_in_place_fails(scratch: Path) -> None:
    """Each file says what it said, or what it should, and is whole; nothing is left beside it."""
    store, place, log = scratch / LONG, scratch / "etc", scratch / "log"
    place.mkdir()
    store.mkdir()
    (scratch / "l").symlink_to(store)
    lower = ":".join(f"{store}/{number}" for number in range(5))
    old = f"overlay /mnt overlay ro,noauto,lowerdir={lower} 0 0\n"
    new = old.replace(str(store), str(scratch / "l"))
    files = [place / "fstab", place / "fstab2"]
    config = scratch / "config.yaml"
    link = {"path": str(scratch / "l"), "target": str(store)}
    config.write_text(json.dumps({"links": {"one": link}}))
    words = ["rewrite", "--config", str(config), "--as", "fstab", "--in-place"]

    def rewrite() -> int:
        return cli.main([*words, *map(str, files)])

    for failure in failures():
        for file in files:
            file.write_text(old)
            file.chmod(0o640)
        code, text = ran(rewrite, log, failure)
        with told(failure):
            assert {file.read_text() for file in files} <= ({old, new} if code else {new})
            assert [thing.mode & 0o777 for thing in look(*files).values()] == [0o640] * 2
            assert sorted(os.listdir(place)) == ["fstab", "fstab2"]
            if code:
                assert text.startswith("ovl-linkd rewrite: "), text
                assert ran(rewrite, log, go_on)[0] == 0
                assert {file.read_text() for file in files} == {new}


# --- guard -----------------------------------------------------------------------------------


def test_a_call_of_a_guard_fails(scratch: Path) -> None:
    """The flag is set and the link is right, or it is said why not."""
    farm, own, config, log = (scratch / name for name in ("f", "g", "config.yaml", "log"))
    farm.mkdir()
    own.mkdir()
    path = own / "l"
    link = {"path": str(path), "target": "/usr", "guard": "append-only"}
    whole = {"links": {"ctrdl": link}, "farm": {"path": str(farm), "guard": "append-only"}}
    config.write_text(json.dumps(whole))

    def guard() -> int:
        return cli.main(["guard", "--config", str(config)])

    for failure in failures():
        path.symlink_to("/elsewhere")
        code, text = ran(guard, log, failure)
        guarded = [is_append_only(str(directory)) for directory in (farm, own)]
        set_append_only(str(farm), False)
        set_append_only(str(own), False)
        with told(failure):
            assert os.readlink(path) == "/usr" or not guarded[1]
            assert failure.call or guarded == [True, True]
            if code == 0:
                assert guarded == [True, True]
            elif not (failure.call and failure.call.name == "write"):  # of what it says
                assert text.startswith("ovl-linkd guard: "), text
        for name in os.listdir(own):
            (own / name).unlink()
