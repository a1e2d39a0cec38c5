"""What the daemon tells short-lived commands without being asked: a small JSON file.

`status`, `rewrite` and the mount helper need the links and the socket, and reading them here takes
no YAML and no round trip. Standard library only. The daemon of the standard configuration writes
the file; a daemon that was given `--config FILE` doesn't, its commands read FILE.
"""

import json
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from ovl_linkd import __version__, config_files
from ovl_linkd.links.link import Link
from ovl_linkd.replacing import replace

if TYPE_CHECKING:
    from ovl_linkd.config import Config

PATH = "/run/ovl-linkd/published.json"
_SCHEMA = 1


class Published(NamedTuple):
    """The part of the configuration that commands need.

    ``stamp`` is config_files.stamp() as it was when the configuration was read; ``farm`` the
    farm's directory, None without one, ``lasting`` whether nothing in it is ever removed.
    """

    links: tuple[Link, ...]
    control_socket: str
    stamp: list[config_files.Stamp]
    farm: str | None = None
    lasting: bool = False


def known(config_file: str | None) -> Published:
    """The links and the socket: from the daemon's file if it is fresh, else from the configuration.

    Raises UserError, exit code 1, if the configuration has to be read and is faulty.
    """
    stamp = config_files.stamp(config_file)
    if config_file is None:
        published = read()
        if published and published.stamp == stamp:
            return published
    from ovl_linkd.config import ConfigError, load

    try:
        config = load(config_file)
    except ConfigError as error:
        raise error.told(config_file) from None
    return of(config, stamp)


def of(config: "Config", stamp: list[config_files.Stamp]) -> Published:
    """The part of CONFIG that commands need; STAMP as of Published."""
    if config.farm is None:
        return Published(config.links, config.control_socket, stamp)
    lasting = config.farm.guard == "append-only"
    return Published(config.links, config.control_socket, stamp, config.farm.path, lasting)


def read(path: str = PATH) -> Published | None:
    """What a daemon published, fresh or not; None where nothing trustworthy is there.

    Trustworthy is a regular file that root or this process' user owns and others can't write.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022:
                return None
            if status.st_uid not in (0, os.geteuid()):
                return None
            return _decode(file.read())
    except (OSError, ValueError):
        return None


def _open(path: str, flags: int) -> int:
    """Not held up by a FIFO that somebody put there."""
    return os.open(path, flags | os.O_NONBLOCK)


def write(published: Published, path: str = PATH) -> None:
    """Replace the file as a whole (rename(2)); make its directory if that is missing.

    Raises OSError; the file that was there is gone then, if it can be: it would mislead.
    """
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        replace(path, _encode(published))
    except OSError:
        try:
            os.unlink(path)
        except OSError:
            pass  # the error that matters is the other one
        raise


def _encode(published: Published) -> str:
    return json.dumps(
        {
            "schema_version": _SCHEMA,
            "version": __version__,
            "links": [link._asdict() for link in published.links],
            "control_socket": published.control_socket,
            "farm": published.farm,
            "lasting": published.lasting,
            "stamp": published.stamp,
        }
    )


def _decode(text: str) -> Published | None:
    """Read what _encode() wrote; None if it was written by a version with another layout."""
    value = json.loads(text)
    try:
        if value["schema_version"] != _SCHEMA:
            return None
        links = tuple(Link(*(link[name] for name in Link._fields)) for link in value["links"])
        names = ("control_socket", "stamp", "farm", "lasting")
        return Published(links, *(value[name] for name in names))
    except (KeyError, TypeError):
        return None
