"""What the keeper did, as log lines; and a storm of it as a handful of them."""

import logging
from collections.abc import Iterable, Mapping

from ovl_linkd.links.history import Change, Status
from ovl_linkd.links.plot import Trouble
from ovl_linkd.text import printable

MOST_LINES = 10  # about links, within
WINDOW = 10.0  # seconds

#: state -> log level of entering it
_LEVELS = {
    "ok": logging.INFO,
    "dangling": logging.WARNING,
    "wrong": logging.WARNING,
    "missing": logging.WARNING,
    "blocked": logging.ERROR,
    "waiting": logging.WARNING,
    "failing": logging.ERROR,
}

#: what happened -> MESSAGE_ID of the journal's entry (sd_journal_send(3)). They are for ever:
#: people search by them, and the message catalog explains them.
MESSAGE_IDS = {
    "made": "38136f30927d4cd1a0b62c88780ad801",
    "restored": "843ee515aa1447e5b99ec5d4f96eef33",
    "blocked": "6369c56bccea41508c5f5815c4fbe401",
    "unblocked": "a63a4d815a9342e1a0342e072a4047aa",
    "ok": "0868c52ac7eb497d90b21dbe1e695209",
    "dangling": "5122fd344a524b2abc5d01bc678ad089",
    "missing": "44bf84ab76a5440b901ef1d3c9dbbfdb",
    "wrong": "0155f17b8cfd4031b58812cc2f967648",
    "waiting": "c8582e0a64c541368e152a4aeb52280b",
    "failing": "05766e4ab87c4ea1b0bc72a7516c0c0c",
    "fight": "050be54a10e341f19c98bf6b8ddc76d4",
    "fight-over": "c508d02a99f34f5f87059acedf4f1be5",
    "farm": "ce3b1ac6a56649a7bce68ddaab337f03",
    "farm-restored": "dd31a22a98b7432bb488d4095a136603",
    "storm": "7e0d158e637a4637825690a924585e22",
    "loaded": "95b040b30a7e44dea8fd4165cf8642d6",
    "reload-failed": "805fbb5a7fbe49b68f00be6bc8b7e067",
    "unwatched": "215725a1bcbd468ab06b095960cc8a90",
    "degraded": "8d5b3c974a3f454e80ab0c77ba8f371d",
    "bug": "be694d1bd96240d5a71834eae7ac443b",
}


def event(name: str, **fields: str) -> dict[str, object]:
    """What a call of the logger takes as ``extra``, so that the journal knows NAME by its id."""
    return {"journal": {"MESSAGE_ID": MESSAGE_IDS[name], **fields}}


class Report:
    """Logs changes. After MOST_LINES in a WINDOW the rest is counted and told in one line."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._window = float("-inf")  # when the present window began
        self._lines = 0
        self._unsaid = 0
        self._slowest = 0.0
        self._unwatched: set[str] = set()
        self._troubled: set[str] = set()

    def tell(self, changes: Iterable[Change], now: float) -> None:
        """Log CHANGES, which happened at NOW."""
        for change in changes:
            began, ended = _fight(change)
            if began or ended:
                level = logging.WARNING if began else logging.INFO
                extra = event("fight" if began else "fight-over", **_fields(change))
                self._logger.log(level, fight_line(change), extra=extra)
                continue
            if change.after.fighting:
                continue  # the line that began the fight said it; status shows how it stands
            if self._has_room(now):
                level, text = line(change)
                extra = event(what(change), **_fields(change))
                self._logger.log(level, text, extra=extra)
            else:
                self._slowest = max(self._slowest, change.repair.took if change.repair else 0.0)

    def _has_room(self, now: float) -> bool:
        """Whether one more line may be logged in the present window; if not, it is counted."""
        if now - self._window > WINDOW:
            self.flush()
            self._window, self._lines = now, 0
        if self._lines < MOST_LINES:
            self._lines += 1
            return True
        self._unsaid += 1
        return False

    def unsaid(self) -> bool:
        """Whether flush() has something to tell."""
        return self._unsaid > 0

    def flush(self) -> None:
        """Tell of what was only counted."""
        if self._unsaid:
            self._logger.warning(
                "%d more changes in %g s, slowest repair %.1f ms; ovl-linkd status shows "
                "how each is now",
                self._unsaid,
                WINDOW,
                self._slowest * 1000,
                extra=event(
                    "storm", CHANGES=str(self._unsaid), SLOWEST_USEC=_microseconds(self._slowest)
                ),
            )
        self._unsaid, self._slowest = 0, 0.0

    def unwatched(self, found: Mapping[str, OSError], interval: float) -> bool:
        """Log which directories of FOUND can't be watched that could; whether any changed.

        INTERVAL is the seconds after which all is looked at.
        """
        if found.keys() == self._unwatched:
            return False
        for path in sorted(found.keys() - self._unwatched):
            self._logger.warning(
                "can't watch %s: %s; changes below it are seen every %g s, ignoring",
                path,
                found[path].strerror,
                interval,
                extra=event("unwatched"),
            )
        self._unwatched = set(found)
        return True

    def gone(self, what: str) -> None:
        """Log that WHAT is kept no more."""
        self._logger.info("%s is kept no more; what is there stays", what)

    def note(self, trouble: str) -> None:
        """Log a TROUBLE that was met, and is over."""
        self._logger.warning("%s", trouble, extra=event("degraded"))

    def farm(self, path: str, trouble: Trouble | None, now: float) -> None:
        """Log that the farm at PATH is well since NOW, or what its TROUBLE is."""
        if not self._has_room(now):
            return
        state = trouble.state if trouble else "ok"
        fields, text = {"PATH": path, "STATE": state}, f"the farm {path}: {state}"
        if trouble:
            fields |= {"REASON": printable(trouble.reason), "REMEDY": printable(trouble.remedy)}
            text += f": {trouble.reason} (to do: {trouble.remedy})"
        self._logger.log(_LEVELS[state], "%s", text, extra=event("farm", **fields))

    def farm_restored(self, path: str, entries: int) -> None:
        """Log that so many ENTRIES of the farm at PATH were put right."""
        what = "entry" if entries == 1 else "entries"
        extra = event("farm-restored", PATH=path, ENTRIES=str(entries))
        self._logger.warning("restored %d %s of the farm %s", entries, what, path, extra=extra)

    def once(self, thing: str, trouble: str | None) -> None:
        """Log a TROUBLE with THING that stops no repair, until it has been well (None) again."""
        if trouble is None:
            self._troubled.discard(thing)
        elif thing not in self._troubled:
            self._troubled.add(thing)
            self._logger.warning("%s, ignoring", trouble, extra=event("degraded"))


def _fight(change: Change) -> tuple[bool, bool]:
    """Whether CHANGE is the beginning, or the end, of a fight."""
    before = change.before.fighting if change.before else False
    return change.after.fighting and not before, before and not change.after.fighting


def fight_line(change: Change) -> str:
    """What is said once when somebody begins, or stops, to replace a link again and again."""
    status = change.after
    if status.fighting:
        return (
            f"{status.link.path} is being replaced again and again (now by {status.actual}); "
            f"it is put right after growing pauses. Find out what does it"
        )
    return f"{status.link.path} is no longer being replaced"


def what(change: Change) -> str:
    """What happened, a key of MESSAGE_IDS."""
    before, after, repair = change
    if after.state in ("ok", "dangling") and before and before.state == "blocked":
        return "unblocked"
    # One that is gone again by the time it is looked at was restored all the same.
    if repair and after.state in ("ok", "dangling", "missing", "wrong"):
        return "made" if before is None and repair.found == "missing" else "restored"
    return after.state


def line(change: Change) -> tuple[int, str]:
    """The level and the text that tell of CHANGE."""
    status, repair, happened = change.after, change.repair, what(change)
    more = ", and is no longer blocked" if happened == "unblocked" else ""
    if repair:
        if change.before is None and repair.found == "missing":
            text = f"made {status.link.path} -> {status.link.target}"
            level = logging.INFO
        else:
            found = f"found {repair.found}" + (f": {repair.old}" if repair.old else "")
            text = (
                f"restored {status.link.path} -> {status.link.target} "
                f"({found}; {repair.took * 1e6:.0f} µs){more}"
            )
            level = logging.INFO if more else logging.WARNING
        return (level, text) if status.state == "ok" else (level, f"{text}; {_state(status)}")
    return _LEVELS[status.state], f"{status.link.path}: {_state(status)}{more}"


def _state(status: Status) -> str:
    text = status.state + (f": {status.reason}" if status.reason else "")
    return text + (f" (to do: {status.remedy})" if status.remedy else "")


def _fields(change: Change) -> dict[str, str]:
    """CHANGE as fields of the journal. Paths as they are, for programs; sentences printable."""
    status, repair = change.after, change.repair
    link = status.link
    fields = {"LINK": link.name, "PATH": link.path, "TARGET": link.target, "STATE": status.state}
    if status.actual is not None:
        fields["ACTUAL"] = status.actual
    if status.reason:
        fields["REASON"] = printable(status.reason)
    if status.remedy:
        fields["REMEDY"] = printable(status.remedy)
    if repair:
        fields |= {"FOUND": repair.found, "TOOK_USEC": _microseconds(repair.took)}
        if repair.old is not None:
            fields["FOUND_TARGET"] = repair.old
    return fields


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}"


def summary(statuses: Iterable[Status], unwatched: int = 0, farm: str | None = None) -> str:
    """One honest line about all links, "2 links ok, 1 blocked", for STATUS= (sd_notify(3)).

    ``unwatched`` directories are seen only now and then. ``farm``: its state, if there is one.
    """
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status.state] = counts.get(status.state, 0) + 1
    ok = counts.pop("ok", 0)
    parts = [f"{ok} {'link' if ok == 1 else 'links'} ok"]
    parts += [f"{count} {state}" for state, count in sorted(counts.items())]
    if farm:
        parts.append(f"farm {farm}")
    if unwatched:
        parts.append(f"{unwatched} {'directory' if unwatched == 1 else 'directories'} not watched")
    return ", ".join(parts)
