"""`ovl-linkd doctor`: which rules of cleaners would hit a link. The cleaners themselves decide.

Each case is tried with the real program on an old link, and what the doctor says must be what
happened: a rule it doesn't see costs a link one day, one it makes up costs trust at once.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ovl_linkd.doctor import cleaners, cron
from ovl_linkd.doctor.finding import MAYBE, NOTE, OK, WRONG, Finding
from ovl_linkd.links.link import Link
from tests.kernel.world import in_a_private_world

LINK = "/run/ctrdl"
DEEP = "/run/a/b/ctrdl"
LONG_AGO = 1_000_000_000

# Lines of one file, and the path of the link. am: by atime and mtime alone, ctime can't be set.
BY_AGE = {
    "the directory has an age": ("d /run - - - am:10d", LINK),
    "it has none": ("d /run 0755 root root -", LINK),
    "a directory above has": ("d /run - - - am:10d", DEEP),
    "the nearest line counts: none there": ("d /run - - - am:10d\nd /run/a - - - -", DEEP),
    "the nearest line counts": ("d /run - - - -\nd /run/a/b - - - am:10d", DEEP),
    "whatever its type": ("d /run - - - am:10d\nz /run/a/b 0755", DEEP),
    "type D": ("D /run - - - am:10d", LINK),
    "type v": ("v /run - - - am:10d", LINK),
    "type q": ("q /run - - - am:10d", LINK),
    "type e": ("e /run - - - am:10d", LINK),
    "type e with a pattern": ("e /run/*/b - - - am:10d", DEEP),
    "a pattern reaches over no slash": ("e /run/* - - - am:10d\nx /*/ctrdl", DEEP),
    "the first level is kept": ("d /run - - - ~am:10d", LINK),
    "but not the second": ("d /run - - - ~am:10d", DEEP),
    "a line of its own": (f"d /run - - - am:10d\nL {LINK} - - - - t", LINK),
    "one of another type": (f"d /run - - - am:10d\nz {LINK} - - - -", LINK),
    "excluded": (f"d /run - - - am:10d\nx {LINK}", LINK),
    "excluded by a pattern": ("d /run - - - am:10d\nx /run/ct*", LINK),
    "a pattern skips what starts with a dot": ("d /run - - - am:10d\nx /run/*l", "/run/.l"),
    "excluded itself by X": (f"d /run - - - am:10d\nX {LINK}", LINK),
    "excluded with what is in it": ("d /run - - - am:10d\nx /run/a", DEEP),
    "the line of another path": ("d /run - - - am:10d\nL /run/ctrd - - - - t", LINK),
    "a comment": (f"d /run - - - am:10d\n#x {LINK}", LINK),
    "by the old name of /run": ("d /var/run/a - - - am:10d", DEEP),
    "a symlink on the way is not followed": ("d /var/run - - - am:10d", LINK),
    "quoted": ('d "/run/a b" - - - am:10d', "/run/a b/l"),
    "modifiers": ("d=- /run - - - am:10d", LINK),
    "for boot only": ("d! /run - - - am:10d", LINK),
    "for boot only, and so no exclusion": (f"d /run - - - am:10d\nx! {LINK}", LINK),
    "a slash too many": ("d /run/ - - - am:10d", LINK),
}

BY_REMOVAL = {
    "r": (f"r {LINK}", LINK),
    "r with a pattern": ("r /run/ct*", LINK),
    "R on a directory above": ("R /run/a", DEEP),
    "R with a pattern": ("R /run/*", DEEP),
    "D empties": ("D /run/a - - - -", DEEP),
    "d doesn't": ("d /run/a - - - -", DEEP),
    "r of a directory that isn't empty": ("r /run/a", DEEP),
}


class Place:
    """A root directory with an old link in it, and rules."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("run/a/b", "run/a b", "var", "etc", "usr/lib"):
            (root / name).mkdir(parents=True)
        (root / "var/run").symlink_to("../run")

    def rules(self, text: str, file: str = "usr/lib/tmpfiles.d/test.conf") -> None:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    def link(self, path: str) -> Path:
        inside = self.root / path[1:]
        inside.symlink_to("/nowhere")
        os.utime(inside, (LONG_AGO, LONG_AGO), follow_symlinks=False)
        return inside

    def tmpfiles(self, what: str) -> None:
        subprocess.run(["systemd-tmpfiles", f"--root={self.root}", what], check=True)

    def doctor(self, path: str) -> list[Finding]:
        return cleaners.findings([Link("l", path, "/nowhere")], str(self.root))


@pytest.fixture
def place(scratch: Path) -> Place:
    return Place(scratch)


def hits(found: list[Finding]) -> bool:
    return any(one.level in (WRONG, NOTE) for one in found)


@pytest.mark.needs("root", "systemd-tmpfiles")
@pytest.mark.parametrize("case", BY_AGE)
def test_as_systemd_tmpfiles_cleans(case: str, place: Place) -> None:
    text, path = BY_AGE[case]
    place.rules(text)
    said = place.doctor(path)
    link = place.link(path)

    place.tmpfiles("--clean")

    assert hits(said) == (not link.is_symlink()), said
    if hits(said):
        assert (said[0].level, said[0].mend) == (WRONG, "ovl-linkd tmpfiles --write")
        assert "/usr/lib/tmpfiles.d/test.conf:" in said[0].why


@pytest.mark.needs("root", "systemd-tmpfiles")
@pytest.mark.parametrize("case", BY_AGE)
def test_what_the_doctor_prescribes_against_it_helps(case: str, place: Place) -> None:
    """`ovl-linkd tmpfiles` writes a line for the link itself."""
    text, path = BY_AGE[case]
    place.rules(text)
    place.rules(f'L "{path}" - - - - /nowhere', "etc/tmpfiles.d/ovl-linkd.conf")
    link = place.link(path)

    place.tmpfiles("--clean")

    assert link.is_symlink()
    assert "old" not in str(place.doctor(path))


def test_an_exclusion_of_type_x_large_leaves_what_is_below_at_risk(tmp_path: Path) -> None:
    """It takes its age from above. The real one's is by all times, and so can't be tried here."""
    rules = tmp_path / "usr/lib/tmpfiles.d/test.conf"
    rules.parent.mkdir(parents=True)
    rules.write_text("d /run - - - 10d\nX /run/a\n")
    assert hits(cleaners.findings([Link("l", DEEP, "/nowhere")], str(tmp_path)))


@pytest.mark.needs("root", "systemd-tmpfiles")
@in_a_private_world
def test_a_specifier_stands_for_its_directory() -> None:
    """On the machine's own paths: below another root systemd-tmpfiles 252 puts the root twice."""
    rules = Path("/run/tmpfiles.d/test.conf")
    rules.parent.mkdir()
    rules.write_text("d %t - - - am:10d\n")
    link = Path("/run/ctrdl")
    link.symlink_to("/nowhere")
    os.utime(link, (LONG_AGO, LONG_AGO), follow_symlinks=False)

    said = [
        one for one in cleaners.findings([Link("l", str(link), "/nowhere")]) if "test" in one.why
    ]
    subprocess.run(["systemd-tmpfiles", "--clean", rules], check=True)

    assert hits(said)
    assert not link.is_symlink()


@pytest.mark.needs("root", "systemd-tmpfiles")
@pytest.mark.parametrize("case", BY_REMOVAL)
def test_as_systemd_tmpfiles_removes(case: str, place: Place) -> None:
    text, path = BY_REMOVAL[case]
    place.rules(text)
    said = place.doctor(path)
    link = place.link(path)

    subprocess.run(["systemd-tmpfiles", f"--root={place.root}", "--remove"], check=False)

    assert hits(said) == (not link.is_symlink()), said


@pytest.mark.needs("root", "systemd-tmpfiles")
@pytest.mark.parametrize("own", [f"x {DEEP}", f"L {DEEP} - - - - t"])
def test_a_line_of_its_own_is_no_sure_help_against_removal(own: str, place: Place) -> None:
    """systemd 252 takes the link away all the same, 257 does not: neither is to be promised."""
    place.rules(f"D /run/a - - - -\n{own}")
    (one,) = place.doctor(DEEP)
    assert one.level == MAYBE
    link = place.link(DEEP)

    subprocess.run(["systemd-tmpfiles", f"--root={place.root}", "--remove"], check=False)

    done = subprocess.run(["systemd-tmpfiles", "--version"], capture_output=True, check=True)
    kept = {b"252": False, b"257": True}.get(done.stdout.split()[1])
    assert kept in (None, link.is_symlink())


@pytest.mark.needs("root", "systemd-tmpfiles")
def test_a_rule_for_boot_only_is_no_trouble_in_run(place: Place) -> None:
    place.rules(f"r! {LINK}")
    assert [one.level for one in place.doctor(LINK)] == [NOTE]
    place.rules("r! /srv/l")
    assert [one.level for one in place.doctor("/srv/l")] == [WRONG]


@pytest.mark.needs("root", "systemd-tmpfiles")
@pytest.mark.parametrize("mask", ["/dev/null", None])
def test_a_masked_file_has_no_rules(place: Place, mask: str | None) -> None:
    """/etc hides a packaged file of the same name, by a symlink or by another content."""
    place.rules("d /run - - - am:10d")
    assert hits(place.doctor(LINK))
    if mask is None:
        place.rules("", "etc/tmpfiles.d/test.conf")
    else:
        (place.root / "etc/tmpfiles.d").mkdir()
        (place.root / "etc/tmpfiles.d/test.conf").symlink_to(mask)
    link = place.link(LINK)

    place.tmpfiles("--clean")

    assert link.is_symlink()
    assert not hits(place.doctor(LINK))


@pytest.mark.needs("root")
def test_lines_that_make_no_sense_are_passed_over(place: Place) -> None:
    place.rules(
        'd\nd %z - - - 1d\n"\nd relative - - - 1d\n\\\n"" /run - - - 1d\n d \\x2frun - - - 1d'
    )
    (place.root / "usr/lib/tmpfiles.d/dir.conf").mkdir()
    (place.root / "usr/lib/tmpfiles.d/latin1.conf").write_bytes(b"d /run/\xe9 - - - 1d\n")
    assert place.doctor("/srv/l")[0].level == OK


# --- tmpreaper and tmpwatch --------------------------------------------------------------------

REAPED = {
    "symlinks": ("--symlinks 1d {0}/tmp", "/tmp/l"),
    "-s among others": ("-as 1d {0}/tmp", "/tmp/l"),
    "no symlinks": ("1d {0}/tmp", "/tmp/l"),
    "below": ("-s 1d {0}/tmp/.", "/tmp/x/l"),
    "another directory": ("-s 1d {0}/var", "/tmp/l"),
    "protected": ("-s --protect {0}/tmp/l 1d {0}/tmp", "/tmp/l"),
    "protected by a pattern": ("-s --protect '{0}/tmp/*' 1d {0}/tmp", "/tmp/l"),
    "with =": ("--delay=1 -s --protect='{0}/tmp/*' 1d {0}/tmp", "/tmp/l"),
    "only a test": ("-s --test 1d {0}/tmp", "/tmp/l"),
}


@pytest.mark.needs("root", "tmpreaper")
@pytest.mark.parametrize("case", REAPED)
def test_as_tmpreaper_reaps(case: str, place: Place) -> None:
    options, path = REAPED[case]
    command = options.format(place.root)
    (place.root / "tmp/x").mkdir(parents=True)
    (place.root / "etc/cron.d").mkdir()
    (place.root / "etc/cron.d/reap").write_text(
        f"SHELL=/bin/sh\n# tmpreaper -s 1d /\n1 2 * * * root nice /usr/sbin/tmpreaper {command}\n"
    )
    link = place.link(path)
    found = cleaners.findings([Link("l", str(link), "/nowhere")], str(place.root))

    subprocess.run(f"tmpreaper {command}", shell=True, check=True, stdout=subprocess.DEVNULL)  # noqa: S602

    assert hits(found) == (not link.is_symlink()), found
    if hits(found):
        assert f"in /etc/cron.d/reap: tmpreaper --protect {link}" in found[0].mend


def test_debian_s_daily_tmpreaper_runs_only_once_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "etc/cron.daily").mkdir(parents=True)
    job = tmp_path / "etc/cron.daily/tmpreaper"
    job.write_text("nice -n10 tmpreaper --symlinks $TMPREAPER_TIME $TMPREAPER_DIRS\n")
    settings = tmp_path / "etc/tmpreaper.conf"
    link = Link("l", "/tmp/short", "/nowhere")

    def said() -> list[Finding]:
        return cleaners.findings([link], str(tmp_path))

    settings.write_text("SHOWWARNING=true\nRUNFROMCRON=true\nTMPREAPER_DIRS='/tmp/.'\n")
    assert said()[0].level == OK
    settings.write_text(
        "RUNFROMCRON=true\n# TMPREAPER_TIME=7d\nTMPREAPER_DIRS='/tmp/. /var/tmp/.'\n"
    )
    (one,) = said()
    assert one.level == WRONG
    assert "once it is 7d old" in one.what
    assert one.mend == "in /etc/tmpreaper.conf: TMPREAPER_PROTECT_EXTRA=/tmp/short"
    settings.write_text(
        "RUNFROMCRON=true\nTMPREAPER_DIRS='/tmp/.'\nTMPREAPER_PROTECT_EXTRA='/tmp/short'\n"
    )
    assert said()[0].level == OK
    settings.write_text("TMPREAPER_DIRS='/tmp/.'\n")
    assert said()[0].level == OK


# tmpwatch is not in Debian: as its manual says.
WATCHED = {
    "tmpwatch 24 /tmp": True,
    "/usr/sbin/tmpwatch -umc 10d /tmp": True,
    "flags=-umc\n/usr/sbin/tmpwatch \"$flags\" -x /tmp/.X11-unix -X '/tmp/hs_*' 10d /tmp": True,
    "tmpwatch --nosymlinks 24 /tmp": False,
    "tmpwatch -ml 24 /tmp": False,
    "tmpwatch -x /tmp/d 24 /tmp": False,
    "tmpwatch -X '/tmp/*/l' 24 /tmp": False,
    "tmpwatch 24 /var/tmp": False,
    "tmpwatch -t 24 /tmp": False,
    "#tmpwatch 24 /tmp": False,
}


@pytest.mark.parametrize("script", WATCHED)
def test_tmpwatch_is_understood(script: str, tmp_path: Path) -> None:
    (tmp_path / "etc/cron.daily").mkdir(parents=True)
    (tmp_path / "etc/cron.daily/tmpwatch").write_text(f"#!/bin/sh\n{script}\n")

    found = cleaners.findings([Link("l", "/tmp/d/l", "/nowhere")], str(tmp_path))

    assert hits(found) == WATCHED[script]


def test_a_script_that_is_no_shell_is_passed_over(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "kernel", tmp_path / "etc/cron.daily")
    (tmp_path / "etc/cron.daily/unclosed").write_text("tmpwatch 'x\n")
    (tmp_path / "etc/cron.daily/binary").write_bytes(b"\x7fELF\0tmpwatch\0")
    assert cron.calls(str(tmp_path)) == []


def test_what_is_pasted_holds_any_path_as_one_word() -> None:
    call = cron.Call(cron.REAPER, "/etc/cron.d/reap", "7d", ("/tmp",), (), takes_links=True)
    assert "--protect '/tmp/a; reboot' " in cron.mend(call, "/tmp/a; reboot")
    call = call._replace(where=cron.REAPER_SETTINGS)
    assert cron.mend(call, "/tmp/a'b").endswith("""_EXTRA='/tmp/a'"'"'b'""")
