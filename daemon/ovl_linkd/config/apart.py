"""`load()` for a process that lives long: the libraries it takes stay out of that process.

PyYAML and jsonschema with what they import weigh some 9 MiB, more than all else of the daemon but
the interpreter and asyncio, and are needed for 50 ms a reload.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any, NoReturn

from ovl_linkd.config import Config, ConfigError, Farm, Link, Problem


def load(file: str | None = None) -> Config:
    """As config.load(), done in a forked child. Blocks until it ends; leaves nothing behind.

    Raises ConfigError, also where the child fails by itself: a library that is gone, no memory.
    """
    try:
        reading = Reading(file)
        while reading.more():
            pass
    except OSError as error:
        raise no_child(file, error) from None
    return reading.outcome()


def no_child(file: str | None, error: OSError) -> ConfigError:
    """What to raise where ERROR keeps the child from being, or from being heard."""
    what = f"there can be no process that reads it: {error.strerror}"
    problem = Problem(file or "ovl-linkd", 0, 0, what, "try again")
    return ConfigError((problem,), passing=True)


class Reading:
    """A load that is under way. Raises OSError if there can be no child.

    Call more() whenever fileno() is readable until it says no, then outcome().
    """

    def __init__(self, file: str | None) -> None:
        self._file = file
        self._answer = bytearray()
        self._reader, writer = os.pipe()
        try:
            self._child = os.fork()
        except OSError:
            os.close(self._reader)
            os.close(writer)
            raise
        if self._child == 0:
            _answer(file, self._reader, writer)
        os.close(writer)

    def fileno(self) -> int:
        """The pipe that the answer comes through."""
        return self._reader

    def more(self) -> bool:
        """Take a part of the answer; whether another is to come."""
        part = os.read(self._reader, 1 << 20)
        self._answer += part
        return bool(part)

    def abandon(self) -> None:
        """Let nothing come of it."""
        os.close(self._reader)
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)

    def outcome(self) -> Config:
        """The configuration; raises as load()."""
        os.close(self._reader)
        _, status = os.waitpid(self._child, 0)
        if status != 0:
            code = os.waitstatus_to_exitcode(status)
            raise _failed(self._file, f"the process that reads it ended with {code}")
        return _understood(self._file, json.loads(self._answer))


def _answer(file: str | None, reader: int, writer: int) -> NoReturn:
    """The child: write one JSON object and end, without what a normal exit would run."""
    code = 1
    try:
        # It is the parent's: a signal meant for this process must not wake that one's loop.
        signal.set_wakeup_fd(-1)
        os.close(reader)  # or, once the parent is killed, an answer would be waited with for ever
        with open(writer, "w", encoding="ascii") as stream:
            json.dump(_outcome(file), stream)
        code = 0
    finally:
        os._exit(code)


def _outcome(file: str | None) -> dict[str, Any]:
    from ovl_linkd import config

    try:
        return {"config": config.load(file)}
    except ConfigError as error:
        return {"problems": error.problems, "passing": error.passing}
    except Exception as error:  # the parent has to hear of anything
        return {"failed": f"{type(error).__name__}: {error}"}


def _understood(file: str | None, answer: dict[str, Any]) -> Config:
    if "failed" in answer:
        raise _failed(file, answer["failed"])
    if "problems" in answer:
        problems = tuple(Problem(*one) for one in answer["problems"])
        raise ConfigError(problems, answer["passing"])
    links, farm, resync_interval, control_socket, metrics_file, files = answer["config"]
    return Config(
        tuple(Link(*one) for one in links),
        Farm(*farm) if farm is not None else None,
        resync_interval,
        control_socket,
        metrics_file,
        tuple(files),
    )


def _failed(file: str | None, why: str) -> ConfigError:
    what = f"the configuration could not be read: {why}"
    problem = Problem(file or "ovl-linkd", 0, 0, what, "see ovl-linkd check")
    return ConfigError((problem,), passing=True)
