"""Links in a directory that `ovl-linkd guard` makes append-only: nobody takes one away any more."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovl_linkd import cli, config_files
from ovl_linkd.commands import guard as commands_guard
from ovl_linkd.config import load
from ovl_linkd.doctor import cleaners
from ovl_linkd.doctor import links as doctor_links
from ovl_linkd.doctor.finding import MAYBE, OK, WRONG
from ovl_linkd.links.flags import SET, is_append_only, set_append_only
from tests.daemon.farms import CLEANERS
from tests.daemon.world import Daemon, command

pytestmark = pytest.mark.needs("root", "systemd-tmpfiles", "tmpreaper", "find")


class Guarded:
    """A daemon with the guarded links `directory`/one and two, and their targets."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.place = daemon.directory / "tmp"
        self.place.mkdir()
        self.directory = self.place / "f"
        self.targets = {name: daemon.directory / "t" / name for name in ("one", "two", "three")}
        for target in self.targets.values():
            target.mkdir(parents=True)
        self.configure(one="one", two="two")

    def configure(self, **targets: str) -> None:
        """Have the configuration lead the links so named to these targets."""
        links = {name: (self.directory / name, self.targets[to]) for name, to in targets.items()}
        self.daemon.write(links)
        whole = json.loads(self.daemon.config.read_text())
        for link in whole["links"].values():
            link["guard"] = "append-only"
        self.daemon.write_raw(json.dumps(whole))

    def guard(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output and errors of `ovl-linkd guard`."""
        done = command("guard", "--config", self.daemon.config, *words)
        return done.returncode, done.stdout, done.stderr

    @property
    def said(self) -> tuple[int, str, str]:
        """What guard() is where all is well."""
        return 0, f"{self.directory}: append-only\n", ""

    @property
    def is_set(self) -> bool | None:
        """Whether the directory has the flag."""
        return is_append_only(str(self.directory))

    def there(self) -> dict[str, str]:
        """The symlinks in the directory, hidden ones, too."""
        return {each.name: os.path.basename(os.readlink(each)) for each in self.directory.iterdir()}


@pytest.fixture
def guarded(daemon: Daemon) -> Iterator[Guarded]:
    made = Guarded(daemon)
    yield made
    if made.is_set:
        set_append_only(str(made.directory), wanted=False)


def test_they_are_out_of_every_cleaners_reach(guarded: Guarded) -> None:
    """Not even for the moment between removal and repair, in which a mount would fail."""
    guarded.daemon.start()
    assert guarded.guard() == guarded.guard() == guarded.said
    before = {name: os.lstat(guarded.directory / name).st_ino for name in ("one", "two")}
    for name, cleaner in CLEANERS.items():
        for link in before:
            os.utime(guarded.directory / link, (0, 0), follow_symlinks=False)
        words = cleaner(guarded.place)
        subprocess.run(words, check=False, capture_output=True, stdin=subprocess.DEVNULL)
        after = {each: os.lstat(guarded.directory / each).st_ino for each in before}
        assert after == before, name
    with pytest.raises(PermissionError):
        os.unlink(guarded.directory / "one")
    assert guarded.daemon.link("one")["repairs"] == 1, "it was made, and never put right"
    guarded.guard("--off")
    with guarded.daemon.repairing("one", "missing"):
        os.unlink(guarded.directory / "one")


def test_a_target_that_changed_is_the_guards_to_put_right(guarded: Guarded) -> None:
    guarded.daemon.start()
    guarded.guard()
    guarded.configure(one="three", two="two")
    guarded.daemon.call("Reload")
    link = guarded.daemon.link("one")
    assert link["state"] == "failing"
    assert "is append-only" in link["reason"]
    assert link["remedy"] == "systemctl reload ovl-linkd-guard"
    assert guarded.there() == {"one": "one", "two": "two"}, "no temporary name that would stay"
    assert guarded.guard() == guarded.said
    assert guarded.there() == {"one": "three", "two": "two"}
    assert guarded.is_set
    guarded.daemon.until_state("one", "ok")


def test_a_name_more_is_the_daemons_to_make(guarded: Guarded) -> None:
    guarded.daemon.start()
    guarded.guard()
    guarded.configure(one="one", two="two", three="three")
    guarded.daemon.call("Reload")
    assert guarded.daemon.link("three")["state"] == "ok"
    assert guarded.guard() == guarded.said


def test_without_a_daemon_the_links_are_made_and_put_right(guarded: Guarded) -> None:
    assert guarded.guard() == guarded.said
    guarded.guard("--off")
    (guarded.directory / "one").unlink()
    (guarded.directory / "two").unlink()
    (guarded.directory / "two").symlink_to("/elsewhere")
    (guarded.directory / ".two.ovl-linkd").symlink_to("/left/by/a/killed/one")
    assert guarded.guard() == guarded.said
    assert guarded.there() == {"one": "one", "two": "two"}
    assert guarded.is_set


def _file(guarded: Guarded) -> Path:
    path = guarded.directory / "a-file"
    path.write_text("somebody's")
    return path


def _foreign_link(guarded: Guarded) -> Path:
    path = guarded.directory / "a-link"
    path.symlink_to("/elsewhere")
    return path


def _instead(guarded: Guarded) -> Path:
    path = guarded.directory / "one"
    path.unlink()
    path.mkdir()
    return path


@pytest.mark.parametrize("make", [_file, _foreign_link, _instead])
@pytest.mark.parametrize("was", [True, False], ids=["guarded", "not yet"])
def test_a_directory_that_holds_anything_else_is_refused(
    guarded: Guarded, make: Callable[[Guarded], Path], *, was: bool
) -> None:
    """The flag would keep its owner from it. Whether the directory is guarded stays as it is."""
    guarded.guard()
    set_append_only(str(guarded.directory), wanted=False)
    path = make(guarded)
    before = os.lstat(path)
    set_append_only(str(guarded.directory), wanted=was)
    code, out, err = guarded.guard()
    assert (code, out) == (1, "")
    assert f"{path} is no kept link" in err
    assert "systemctl stop ovl-linkd-guard" in err
    assert os.lstat(path).st_ino == before.st_ino
    assert guarded.is_set is was


def test_what_others_could_exchange_is_not_touched(guarded: Guarded) -> None:
    guarded.guard()
    guarded.guard("--off")
    guarded.directory.chmod(0o777)
    code, out, err = guarded.guard()
    assert (code, out) == (1, "")
    assert "writable by everybody" in err
    assert not guarded.is_set


def test_what_status_and_doctor_tell_of_it(guarded: Guarded) -> None:
    """A cleaner's rule is no danger to a link that it can't remove."""
    guarded.daemon.start()
    root = guarded.daemon.directory / "root"
    rules = root / "etc/tmpfiles.d/rule.conf"
    rules.parent.mkdir(parents=True)
    rules.write_text(f"R {guarded.directory}\n")
    links = load(str(guarded.daemon.config)).links
    for is_set in (False, True):
        if is_set:
            guarded.guard()
        shown = command("status", "--json", "--config", guarded.daemon.config)
        link = json.loads(shown.stdout)["links"][0]
        assert (shown.returncode, link["state"], link["guard"]) == (0, "ok", "append-only")
        assert (link["guarded"], link["remedy"]) == (is_set, None if is_set else SET)
        levels = {one.level for one in doctor_links.findings(links, kept=True)}
        assert levels == {OK if is_set else MAYBE}
        levels = {one.level for one in cleaners.findings(links, str(root))}
        assert levels == {OK if is_set else WRONG}


@pytest.mark.parametrize("text", ["{", '{"guarded": null}', '{"guarded": {"/run/x": [1]}}'])
def test_what_is_guarded_is_known_without_the_memory_of_it(
    text: str, guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is damaged keeps nobody from setting the flag, nor from taking it off."""
    shutil.copy(guarded.daemon.config, tmp_path / "config.yaml")
    memory = tmp_path / "guarded.json"
    monkeypatch.setattr(config_files, "LASTING", (str(tmp_path),))
    monkeypatch.setattr(commands_guard, "MEMORY", str(memory))
    for words, is_set in ([], True), (["--off"], False):
        memory.write_text(text)
        assert cli.main(["guard", *words]) == 0
        assert guarded.is_set is is_set
        assert memory.exists() is is_set
    assert cli.main(["guard"]) == 0
    before = os.lstat(memory).st_ino  # it is read, too: the time of that may be another
    assert cli.main(["guard"]) == 0
    assert os.lstat(memory).st_ino == before, "no disk is too full for what it says already"


def test_a_symlink_that_nobody_remembers_is_left_and_what_to_do_can_be_done(
    guarded: Guarded,
) -> None:
    """Outside /run, where it may be somebody's: with the flag set it could not be adopted."""
    place = Path(tempfile.mkdtemp(prefix="ovl-linkd-test-", dir="/var/lib"))
    try:
        place.chmod(0o755)
        guarded.directory = place / "f"
        guarded.configure(one="one")
        assert guarded.guard() == guarded.said
        guarded.configure(one="two")
        code, out, err = guarded.guard()
        assert (code, out, guarded.there()) == (1, "", {"one": "one"})
        assert f"{guarded.directory}/one: the symlink leads to {guarded.targets['one']}" in err
        repair = "ovl-linkd repair one --adopt"
        assert f"systemctl stop ovl-linkd-guard; {repair}; systemctl start" in err
        guarded.guard("--off")
        assert f"hint: {repair}\n" in guarded.guard()[2]
    finally:
        if guarded.is_set:
            set_append_only(str(guarded.directory), wanted=False)
        shutil.rmtree(place)
