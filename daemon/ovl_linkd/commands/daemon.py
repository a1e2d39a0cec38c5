"""What the commands that ask the daemon share."""

import os
from typing import TYPE_CHECKING, Any

from ovl_linkd import client, config_files, published
from ovl_linkd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = dict[str, Any]

NOT_RUNNING = 3  # exit codes of ovl-linkd(8)
CANT_TELL = 4

_NONE = type(None)
#: key -> what its value may be, of a link, of its last repair, of the daemon, and of its farm
_LINK = {
    **dict.fromkeys(("name", "path", "target", "state", "since"), (str,)),
    **dict.fromkeys(("actual", "reason", "remedy", "next_try"), (str, _NONE)),
    "repairs": (int,),
    "last_repair": (dict, _NONE),
}
_REPAIR = {"at": (str,), "found": (str,), "took_us": (int,)}
_DAEMON = {"pid": (int,), "version": (str,), "since": (str,), "config_changed_on_disk": (bool,)}
FARM = {
    **dict.fromkeys(("path", "state"), (str,)),
    **dict.fromkeys(("reason", "remedy"), (str, _NONE)),
    **dict.fromkeys(("entries", "most"), (int,)),
    "oldest": (str, _NONE),
    "guard": (str,),
    "guarded": (bool, _NONE),
    **dict.fromkeys(("leases", "expiries", "repairs"), (int,)),
}


def socket_path(config_file: str | None) -> str:
    """Where the daemon of CONFIG_FILE listens: as it published itself, else as configured.

    What it published counts even when the configuration on disk has changed since, or is broken;
    unless nobody listens there any more. Raises UserError, CANT_TELL.
    """
    said = published.read() if config_file is None else None
    if said and (
        said.stamp == config_files.stamp(config_file) or client.listens(said.control_socket)
    ):
        return said.control_socket
    try:
        return published.known(config_file).control_socket
    except UserError as error:
        from ovl_linkd.config import ConfigError, control_socket

        try:
            return control_socket(config_file)
        except ConfigError:
            if said:
                return said.control_socket
            raise UserError(error.what, error.hint, CANT_TELL) from None


def ask(
    config_file: str | None, method: str, timeout: float = client.TIMEOUT, **parameters: Any
) -> list[Json]:
    """Call METHOD of the daemon, at most TIMEOUT seconds; the links of its answer.

    Raises UserError, also for what the daemon refuses.
    """
    path = socket_path(config_file)
    try:
        return links_of(client.call(path, method, timeout, **parameters))
    except client.NotRunning as error:
        hint = "systemctl start ovl-linkd" + ("; or use --offline" if method == "Repair" else "")
        raise UserError(f"the daemon is not running: {error}", hint, NOT_RUNNING) from None
    except client.NoAnswer as error:
        raise UserError(str(error), "see the daemon's log", CANT_TELL) from None
    except client.CallError as error:
        raise refusal(error) from None


def links_of(reply: Json) -> list[Json]:
    """The links of a REPLY, each with all that is shown of it. Raises client.NoAnswer."""
    links = reply.get("links")
    if not isinstance(links, list):
        raise _strange()
    for link in links:
        _require(link, _LINK)
        if not (_is_path(link["path"]) and _is_path(link["target"])):
            raise _strange()
        if link["last_repair"] is not None:
            _require(link["last_repair"], _REPAIR)
    return links


def daemon_of(reply: Json) -> Json:
    """What a REPLY says of the daemon itself. Raises client.NoAnswer."""
    return _require(reply.get("daemon"), _DAEMON)


def farm_of(reply: Json) -> Json | None:
    """What a REPLY says of the farm, None where there is none. Raises client.NoAnswer."""
    farm = reply.get("farm")
    if farm is not None and not _is_path(_require(farm, FARM)["path"]):
        raise _strange()
    return farm


def _require(value: Any, keys: "Mapping[str, tuple[type, ...]]") -> Json:
    if isinstance(value, dict) and all(
        key in value and isinstance(value[key], types) for key, types in keys.items()
    ):
        return value
    raise _strange()


def _is_path(text: str) -> bool:
    """Whether a system call takes TEXT, as an absolute path."""
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return raw.startswith(b"/") and b"\0" not in raw


def _strange() -> client.NoAnswer:
    return client.NoAnswer("the daemon's answer is not what this version understands")


def refusal(error: client.CallError) -> UserError:
    """What the daemon's ERROR means to a person."""
    said = error.parameters
    if error.name == "NoSuchLink":
        return UserError(f"no link is named {said.get('name')}", "ovl-linkd status", 2)
    if error.name == "ConfigInvalid":
        hint = "the daemon goes on with the configuration it has; ovl-linkd check"
        return UserError(_problems(said.get("problems")) or "the configuration is faulty", hint)
    if error.name.endswith(".PermissionDenied"):
        return UserError("only root and the daemon's user may do this", "use sudo")
    what = f"the daemon refused: {error.name} {said or ''}".rstrip()
    return UserError(what, "see the daemon's log", CANT_TELL)


def _problems(told: Any) -> str:
    """The problems that the daemon TOLD, a line each; those that it understands."""
    from ovl_linkd.config import Problem

    keys = {key: (int if key in ("line", "column") else str,) for key in Problem._fields}
    lines = []
    for one in told if isinstance(told, list) else []:
        try:
            _require(one, keys)
        except client.NoAnswer:
            continue
        lines.append(str(Problem(*(one[key] for key in keys))))
    return "\n".join(lines)
