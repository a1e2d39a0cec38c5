"""Short names from the daemon's farm, for who mounts by himself.

Standard library only, and quick, for commands that run where the daemon does.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence

from ovl_linkd import client
from ovl_linkd.errors import UserError
from ovl_linkd.overlay.prefixes import Prefix
from ovl_linkd.published import Published

# Of one request. The daemon takes twice as many bytes (service.peer.MOST_BYTES), so that nobody
# fills its memory; and between two requests of this size it has time for repairs.
_MOST_BYTES = 128 * 1024
_MOST_PATHS = 500  # as many layers as a mount has (OVL_MAX_STACK in fs/overlayfs/params.h)


class NotALayer(UserError):
    """One of the paths can't be leased; ``path`` says which."""

    def __init__(self, path: bytes, what: str) -> None:
        text = os.fsdecode(path)
        super().__init__(f"no layer that can be leased: {what}: {text}", "see whether it is right")
        self.path = path


class NoLease(UserError):
    """The farm can't be had now, for whatever reason the text tells."""


def lease(paths: Sequence[bytes], known: Published) -> list[Prefix]:
    """Lease a short name for each of PATHS, absolute paths of directories; once for each.

    Each is there for at least the farm's ``keep`` from now on, and no other path ever gets it
    before the next boot. The list is empty where no farm is configured. Raises NotALayer and
    NoLease, both a UserError. What a call has leased before it failed expires unused.
    """
    if known.farm is None:
        return []
    wanted = list(dict.fromkeys(paths))
    found: list[Prefix] = []
    for batch in _batches(wanted):
        for path, short in zip(batch, _ask(batch, known), strict=True):
            found.append(Prefix(short, path, os.fsencode(short)))
    return found


def entries_in(text: bytes, farm: str) -> list[Prefix]:
    """The entries of the directory FARM that TEXT names and that lead somewhere."""
    named = {short: _target(short) for short in _named(text, farm)}
    return [Prefix(os.fsdecode(short), to, short) for short, to in named.items() if to]


def unknown_in(text: bytes, farm: str) -> list[bytes]:
    """The paths in TEXT that look like entries of the directory FARM and aren't, or not any more.

    They have expired, or are of an earlier boot. What they led to can't be told.
    """
    return [short for short in _named(text, farm) if not _target(short)]


def _named(text: bytes, farm: str) -> list[bytes]:
    pattern = rb"(?<![\w./-])%b/[1-9A-Za-z][0-9A-Za-z]*(?![\w.-])" % re.escape(os.fsencode(farm))
    return list(dict.fromkeys(re.findall(pattern, text)))


def _target(short: bytes) -> bytes | None:
    try:
        return os.readlink(short)
    except OSError:
        return None


def _ask(paths: list[bytes], known: Published) -> list[str]:
    try:
        reply = client.call(known.control_socket, "Lease", paths=list(map(os.fsdecode, paths)))
    except client.NotRunning as error:
        raise NoLease(f"no farm: the daemon is not running: {error}", "start it") from None
    except client.NoAnswer as error:
        raise NoLease(f"no farm: {error}", "see the daemon's log") from None
    except client.CallError as error:
        raise _refusal(error) from None
    leased = reply.get("paths")
    # Perhaps below another directory than we know: the configuration has just changed.
    if not isinstance(leased, list) or len(leased) != len(paths):
        raise _strange()
    if not all(isinstance(short, str) and short.startswith("/") for short in leased):
        raise _strange()
    return leased


def _refusal(error: client.CallError) -> UserError:
    said = error.parameters
    if error.name == "NotALayer":
        return NotALayer(os.fsencode(str(said.get("path"))), str(said.get("what")))
    if error.name == "FarmFull":
        what = f"the farm is full: {said.get('entries')} entries of {said.get('most')}"
        return NoLease(what, "raise farm.max-entries, or shorten farm.keep; then ovl-linkd reload")
    if error.name == "FarmUnusable":
        return NoLease(f"no farm: {said.get('reason')}", str(said.get("remedy")))
    if error.name == "NoFarm":
        return NoLease("the daemon keeps no farm", str(said.get("hint")))
    if error.name.endswith(".PermissionDenied"):
        return NoLease("only root and the daemon's user may lease from the farm", "use sudo")
    return NoLease(f"no farm: the daemon refused: {error.name}", "see the daemon's log")


def _strange() -> UserError:
    return NoLease("the daemon's answer is not what this version understands", "restart it")


def _batches(paths: Sequence[bytes]) -> Iterator[list[bytes]]:
    """PATHS in parts that the daemon takes as one request each."""
    batch: list[bytes] = []
    size = 0
    for path in paths:
        more = len(json.dumps(os.fsdecode(path))) + 2
        if batch and (size + more > _MOST_BYTES or len(batch) == _MOST_PATHS):
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += more
    if batch:
        yield batch
