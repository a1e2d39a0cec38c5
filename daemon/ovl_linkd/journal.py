"""The journal's native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): one entry."""

import struct
from collections.abc import Mapping

#: the socket at which journald takes entries, one a datagram
SOCKET = "/run/systemd/journal/socket"


def entry(fields: Mapping[str, str]) -> bytes:
    """FIELDS in the journal's native protocol.

    A value may be anything, also bytes that are no UTF-8 (surrogateescape).
    """
    parts = []
    for name, text in fields.items():
        value = text.encode("utf-8", "surrogateescape")
        if b"\n" in value:
            parts.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), value))
    return b"".join(parts)
