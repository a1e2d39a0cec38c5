"""Cleaners whose rules would take a link for old, or away.

Sources: systemd's src/tmpfiles/tmpfiles.c (dir_cleanup: what has a line of its own, or matches a
glob of one, is left alone; so is everything below such a directory), tmpreaper(8), tmpwatch(8).
"""

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence

from ovl_linkd.doctor import cron
from ovl_linkd.doctor.finding import MAYBE, NOTE, OK, WRONG, Finding
from ovl_linkd.links.flags import is_append_only
from ovl_linkd.links.link import Link
from ovl_linkd.machine import tmpfiles
from ovl_linkd.machine.tmpfiles import Rule

_AGED = "dDevqQC"  # whose age is that of what they hold
_GLOBS = "xXrRzZwmtThHaAe"
_REMOVING = "rRD"


def findings(links: Sequence[Link], root: str = "") -> list[Finding]:
    """Every rule below ROOT that would hit one of LINKS; none hits one that is guarded."""
    rules = tmpfiles.rules(root)
    found: list[Finding] = []
    for link in links:
        if link.guard != "none" and is_append_only(os.path.dirname(link.path)):
            continue
        found += _by_age(link, rules)
        found += _by_removal(link, rules)
        found += _by_cron(link, root)
    return found or [Finding(OK, f"no cleaner's rule hits a link ({len(rules)} lines read)")]


def _by_age(link: Link, rules: Sequence[Rule]) -> Iterator[Finding]:
    rule = hit_by_age(link.path, rules)
    if rule is not None:
        where = f"{rule.file}:{rule.line}"
        what = f"systemd-tmpfiles removes {link.path} once it is {rule.age} old"
        why = f"{where} says so of {rule.path}; a line of its own for the link protects it"
        yield Finding(WRONG, what, why, "ovl-linkd tmpfiles --write")


def hit_by_age(path: str, rules: Sequence[Rule]) -> Rule | None:
    """The rule by whose age systemd-tmpfiles would remove PATH; None where none would.

    The nearest line upwards decides, whatever its type; ``X`` alone has the age of what is above.
    Lines for boot only are not read when it cleans.
    """
    rules = [rule for rule in rules if "!" not in rule.modifiers]
    here = path
    while True:
        own = [rule for rule in rules if _is_about(rule, here)]
        if here != path:
            for rule in own:
                if rule.type in _AGED and rule.age is not None:
                    direct = here == os.path.dirname(path)
                    return None if rule.keeps_first and direct else rule
        if own and (here == path or any(rule.type != "X" for rule in own)):
            return None
        if here == "/":
            return None
        here = os.path.dirname(here)


def _is_about(rule: Rule, path: str) -> bool:
    if rule.type in _GLOBS and re.search(r"[*?\[]", rule.path):
        return _matches(path, rule.path)
    return rule.path == path


def _matches(path: str, pattern: str) -> bool:
    """fnmatch(3) with FNM_PATHNAME and FNM_PERIOD: no pattern reaches over a slash, or a dot."""
    names, patterns = path.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(
        fnmatch.fnmatchcase(name, each) and not (name.startswith(".") and each[:1] in "*?[")
        for name, each in zip(names, patterns, strict=True)
    )


def _by_removal(link: Link, rules: Sequence[Rule]) -> Iterator[Finding]:
    """Rules of `systemd-tmpfiles --remove`, which every boot runs."""
    for rule in rules:
        if rule.type not in _REMOVING or not _removes(rule, link.path):
            continue
        what = f"systemd-tmpfiles --remove takes {link.path} away"
        where = f"{rule.file}:{rule.line}"
        why = f"{where}: {rule.type}{rule.modifiers} {rule.path}"
        volatile = link.path.startswith("/run/")
        if volatile and "!" in rule.modifiers:
            yield Finding(NOTE, what, f"{why}; at boot only, when /run is empty anyway")
        elif rule.type in "RD" and any(
            _is_about(each, link.path) for each in rules if each != rule
        ):
            why = f"{why}; later versions than Debian 12's leave alone what has a line of its own"
            yield Finding(MAYBE, what, why, f"take the line out: {where}")
        else:
            yield Finding(WRONG, what, why, f"take the line out: {where}")


def _removes(rule: Rule, path: str) -> bool:
    if rule.type != "D" and _is_about(rule, path):
        return True
    if rule.type == "r":
        return False
    while path != "/":
        path = os.path.dirname(path)
        if _is_about(rule, path):
            return True
    return False


def _by_cron(link: Link, root: str) -> Iterator[Finding]:
    for call in cron.calls(root):
        if not cron.reaches(call, link.path):
            continue
        what = f"{call.program} removes {link.path} once it is {call.age} old"
        why = f"{call.where} has it clean {' '.join(call.directories)}"
        yield Finding(WRONG, what, why, cron.mend(call, link.path))
