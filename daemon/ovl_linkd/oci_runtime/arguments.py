"""The command line of runc and of what is called like it: which command, which bundle.

Sources: runc's main.go, create.go and run.go (urfave/cli: one dash or two, options also after
arguments); crun's src/crun.c, create.c and run.c (argp: ``-bDIR``, long names cut short).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

BUNDLE = "bundle"
CONFIG = "config"
#: our own option, which no runtime sees
RUNTIME = "ovl-linkd-runtime"

# Options whose value may be the next word; all others are switches.
_GLOBAL = ("log", "log-format", "log-level", "root", "criu", "rootless", "cgroup-manager", RUNTIME)
_OF_CREATE = (BUNDLE, CONFIG, "console-socket", "pid-file", "pidfd-socket", "preserve-fds")
# Such a switch may be the beginning of none of the names above.
_SWITCHES = (
    *("debug", "systemd-cgroup", "help", "version"),
    *("detach", "keep", "no-subreaper", "no-pivot", "no-new-keyring"),
)
_LETTERS = {"b": BUNDLE, "f": CONFIG}


class Option(NamedTuple):
    """The value of an option: the word that holds it, counted from 0, and where it begins there."""

    name: str
    word: int
    offset: int


class Call(NamedTuple):
    """A call of a runtime. ``command``: the word that is the command; None where there is none."""

    words: tuple[str, ...]
    command: int | None
    options: tuple[Option, ...]

    @property
    def name(self) -> str | None:
        """The command."""
        return None if self.command is None else self.words[self.command]

    def value(self, name: str) -> str | None:
        """The value of the option NAME; of several the last, as the runtimes have it."""
        values = [self.words[x.word][x.offset :] for x in self.options if x.name == name]
        return values[-1] if values else None

    def with_value(self, name: str, value: str) -> list[str]:
        """Return the words with VALUE for the option NAME of the command."""
        words = list(self.words)
        given = [option for option in self.options if option.name == name]
        for option in given:
            words[option.word] = words[option.word][: option.offset] + value
        if not given and self.command is not None:
            words[self.command + 1 : self.command + 1] = [f"--{name}", value]
        return words

    def without(self, name: str) -> "Call":
        """Return the call without the option NAME."""
        mine = [option for option in self.options if option.name == name]
        # The name stands in a word of its own where the value begins another one.
        gone = {x.word for x in mine} | {x.word - 1 for x in mine if x.offset == 0}
        return (
            read([word for at, word in enumerate(self.words) if at not in gone]) if gone else self
        )


def read(words: Sequence[str]) -> Call:
    """Return what WORDS, without the runtime's own name, call."""
    before = _Words(words, 0, _GLOBAL)
    options = list(before.options(until_argument=True))
    if before.at >= len(words):
        return Call(tuple(words), None, tuple(options))
    command = before.at
    after = _Words(words, command + 1, _OF_CREATE)
    options += after.options(until_argument=False)
    return Call(tuple(words), command, tuple(options))


class _Words:
    """Goes through the words; ``at`` is the next one."""

    def __init__(self, words: Sequence[str], at: int, with_value: Sequence[str]) -> None:
        self.words = words
        self.at = at
        self._with_value = with_value

    def options(self, until_argument: bool) -> Iterator[Option]:
        while self.at < len(self.words):
            word = self.words[self.at]
            if word == "--":
                self.at += until_argument
                return
            if len(word) < 2 or not word.startswith("-"):
                if until_argument:
                    return
                self.at += 1
            else:
                yield from self._option(word)

    def _option(self, word: str) -> Iterator[Option]:
        at = self.at
        self.at += 1
        typed, equals, _ = word.lstrip("-").partition("=")
        name = self._full_name(typed) or (_LETTERS.get(typed) if self._takes(BUNDLE) else None)
        if name is None and not word.startswith("--") and self._takes(BUNDLE):
            name = _LETTERS.get(typed[:1])
            if name and not self._is_switch(typed):
                yield Option(name, at, 2)  # -bDIR
            return
        if name is None:
            return
        if equals:
            yield Option(name, at, word.index("=") + 1)
        elif self.at < len(self.words):
            yield Option(name, self.at, 0)
            self.at += 1

    def _takes(self, name: str) -> bool:
        return name in self._with_value

    def _is_switch(self, typed: str) -> bool:
        return any(switch.startswith(typed) for switch in _SWITCHES)

    def _full_name(self, typed: str) -> str | None:
        """The name of an option that takes a value, which TYPED is or begins."""
        if typed in self._with_value:
            return typed
        if len(typed) < 2 or self._is_switch(typed):
            return None
        names = [name for name in self._with_value if name.startswith(typed)]
        return names[0] if len(names) == 1 else None
