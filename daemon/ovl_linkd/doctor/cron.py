"""tmpreaper and tmpwatch, as cron runs them."""

import fnmatch
import os
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from ovl_linkd.formats import shell

REAPER = "tmpreaper"
WATCH = "tmpwatch"
REAPER_SETTINGS = "/etc/tmpreaper.conf"

_FILES = ("/etc/crontab", "/etc/anacrontab")
_DIRECTORIES = (
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron/crontabs",
)
#: the job of Debian's package, which takes everything from REAPER_SETTINGS
_REAPER_JOB = "/etc/cron.daily/tmpreaper"
_WITH_VALUE = {
    WATCH: ("-x", "--exclude", "-X", "--exclude-pattern", "-U", "--exclude-user"),
    REAPER: ("--protect", "-T"),
}


class Call(NamedTuple):
    """A cleaner and what it is told: ``where`` it stands, its ``age`` as written.

    ``spared``: patterns of what it leaves alone. ``takes_links``: whether symlinks, too.
    """

    program: str
    where: str
    age: str
    directories: tuple[str, ...]
    spared: tuple[str, ...]
    takes_links: bool


def calls(root: str = "") -> list[Call]:
    """Every call of a cleaner that cron makes below ROOT, as far as it can be known from text."""
    found = [call for file in _jobs(root) for call in _in_file(file, root)]
    settings = _reaper_settings(root)
    return [*found, settings] if settings else found


def reaches(call: Call, path: str) -> bool:
    """Whether CALL would remove the symlink PATH when it is old."""
    if not call.takes_links:
        return False
    for each in call.spared:
        if fnmatch.fnmatchcase(path, each) or path.startswith(each.rstrip("/") + "/"):
            return False
    return any(path.startswith(each.rstrip("/") + "/") for each in call.directories)


def mend(call: Call, path: str) -> str:
    """What to write so that CALL leaves PATH alone."""
    if call.where == REAPER_SETTINGS:
        return f"in {REAPER_SETTINGS}: TMPREAPER_PROTECT_EXTRA={shlex.quote(path)}"
    option = "--protect" if call.program == REAPER else "-x"
    return f"in {call.where}: {call.program} {option} {shlex.quote(path)} …"


def _jobs(root: str) -> Iterator[str]:
    yield from (root + file for file in _FILES)
    for directory in _DIRECTORIES:
        try:
            names = sorted(os.listdir(root + directory))
        except OSError:
            continue
        yield from (f"{root}{directory}/{name}" for name in names)


def _in_file(file: str, root: str) -> Iterator[Call]:
    where = file.removeprefix(root)
    if where == _REAPER_JOB and os.path.exists(root + REAPER_SETTINGS):
        return
    try:
        with open(file, "rb") as stream:
            text = stream.read()
        # Where no cleaner is called there is nothing to understand.
        if REAPER.encode() not in text and WATCH.encode() not in text:
            return
        commands = shell.commands(text)
    except (OSError, shell.Unclosed):
        return
    for words in commands:
        values = [os.fsdecode(word.value) for word in words]
        for at, value in enumerate(values):
            program = value.rpartition("/")[2]
            if program in (REAPER, WATCH):
                call = _call(program, where, values[at + 1 :])
                if call is not None:
                    yield call
                break


def _call(program: str, where: str, words: list[str]) -> Call | None:
    options: list[str] = []
    spared: list[str] = []
    plain: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if word in _WITH_VALUE[program] or (equals and name in _WITH_VALUE[program]):
            value = value if equals else next(rest, "")
            if name in ("-x", "--exclude", "-X", "--exclude-pattern", "--protect"):
                spared.append(value)
        elif word.startswith("-"):
            options.append(word)
        elif word:
            plain.append(word)
    if len(plain) < 2 or _has(options, "t", "--test"):
        return None
    directories = tuple(os.path.normpath(each) for each in plain[1:] if each.startswith("/"))
    if program == REAPER:
        takes_links = _has(options, "s", "--symlinks")
    else:
        takes_links = not _has(options, "l", "--nosymlinks")
    return Call(program, where, plain[0], directories, tuple(spared), takes_links)


def _has(options: list[str], letter: str, name: str) -> bool:
    return name in options or any(
        letter in word for word in options if word[:1] == "-" and word[:2] != "--"
    )


def _reaper_settings(root: str) -> Call | None:
    """What Debian's daily job does by /etc/tmpreaper.conf: nothing before it was switched on."""
    if not os.path.exists(root + _REAPER_JOB):
        return None
    try:
        with open(root + REAPER_SETTINGS, "rb") as stream:
            commands = shell.commands(stream.read())
    except (OSError, shell.Unclosed):
        return None
    values = {}
    for words in commands:
        for word in words:
            name, equals, value = os.fsdecode(word.value).partition("=")
            if equals:
                values[name] = value
    if values.get("SHOWWARNING") == "true" or values.get("RUNFROMCRON") != "true":
        return None
    directories = (values.get("TMPREAPER_DIRS") or "/tmp/.").split()
    return Call(
        REAPER,
        REAPER_SETTINGS,
        values.get("TMPREAPER_TIME") or "7d",
        tuple(os.path.normpath(each) for each in directories),
        tuple(values.get("TMPREAPER_PROTECT_EXTRA", "").split()),
        takes_links=True,
    )
