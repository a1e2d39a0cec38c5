"""Debian's containerd made to mount as releases before 1.1.4 do: never by relative paths.

They become relative from a page less 512 bytes on, and Go's syscall.Getpagesize says what that is.
Where that is 64 KiB, mount(2) gets what the old ones hand to it; and it calls itself 1.1.2.
"""

import os
import re
import struct
from pathlib import Path
from typing import NamedTuple

from tests.system.containerd.images import UNPACKED

#: those that mount: the service, what runs a container, and the client, which looks for users in it
PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")

_FUNCTION = b"syscall.Getpagesize"
# Return 65536, by the convention of Go's ABIInternal.
_RETURN = {
    "x86_64": bytes.fromhex("b800000100c3"),  # mov eax, 65536; ret
    "aarch64": bytes.fromhex("2000a052c0035fd6"),  # movz w0, 1, lsl 16; ret
}


def make(directory: Path) -> None:
    """Put the changed PROGRAMS into DIRECTORY."""
    for name in PROGRAMS:
        code = bytearray((UNPACKED / "usr/bin" / name).read_bytes())
        at = _place(code)
        new = _RETURN[os.uname().machine]
        code[at : at + len(new)] = new
        code[:] = re.sub(rb"1\.\d\.\d\d(?=~ds1)", b"1.1.02", code)  # what it says of itself
        (directory / name).write_bytes(code)
        (directory / name).chmod(0o755)


class _Section(NamedTuple):
    address: int
    at: int
    size: int


def _sections(code: bytearray) -> dict[str, _Section]:
    """The sections of a 64-bit ELF file (elf(5)), by name."""
    (table,) = struct.unpack_from("<Q", code, 40)
    size, count, of_names = struct.unpack_from("<3H", code, 58)
    heads = [struct.unpack_from("<2I4Q", code, table + each * size) for each in range(count)]
    names = heads[of_names][4]
    return {
        code[names + head[0] : code.index(0, names + head[0])].decode(): _Section(*head[3:])
        for head in heads
    }


def _place(code: bytearray) -> int:
    """Where in the file the function lies, by the table that Go programs keep for their traces.

    Source: Go's src/runtime/symtab.go, pcHeader and functab, the same from 1.18 on.
    """
    sections = _sections(code)
    table, text = sections[".gopclntab"].at, sections[".text"]
    count, _, start, names, _, _, _, functions = struct.unpack_from("<8Q", code, table + 8)
    name = code.index(b"\0%b\0" % _FUNCTION, table + names) + 1 - table - names
    for each in range(count):
        entry, described = struct.unpack_from("<2I", code, table + functions + 8 * each)
        if struct.unpack_from("<i", code, table + functions + described + 4) == (name,):
            return int(start + entry - text.address + text.at)
    raise AssertionError(f"no {_FUNCTION.decode()}")
