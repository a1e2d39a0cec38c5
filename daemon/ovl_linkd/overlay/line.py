"""How long a line of mountinfo will be, before there is one.

What show_mountinfo() and ovl_show_options() write (fs/proc_namespace.c, fs/overlayfs/params.c): the
options by their names, and the letters that would divide them as four bytes, octal.
"""

from collections.abc import Iterable

# In a value: seq_show_option() in include/linux/seq_file.h.
_OCTAL = (b" ", b"\t", b"\n", b"\\", b",")
# Ids, root, type and flags stand beside the options, and what the kernel adds to them.
_REST = 250
# The same with a mount point and a source of usual length.
REST = 600


def of_text(text: bytes, most: int, beside: int = REST) -> int:
    """Return the bytes of the line for the options TEXT of mount(2); 0 if surely below MOST.

    ``beside``: bytes of what stands beside the options, as of_names() reckons it.
    """
    if 4 * len(text) + beside <= most:
        return 0
    # A comma is within a value where it is escaped, and divides the options elsewhere.
    commas = text.count(b"\\,")
    return len(text) + 3 * (sum(map(text.count, _OCTAL[:-1])) + commas) + beside


def of_values(values: Iterable[tuple[bytes, bytes]], beside: int = REST) -> int:
    """Return the bytes of the line for VALUES, names and values that fsconfig(2) is given."""
    return beside + sum(len(name) + len(b",=") + shown(value) for name, value in values)


def of_names(source: bytes, target: bytes) -> int:
    """Return the bytes that stand beside the options of a mount of SOURCE at TARGET."""
    return _REST + shown(source) + shown(target)


def shown(value: bytes) -> int:
    """Return the bytes by which VALUE is shown."""
    return len(value) + 3 * sum(map(value.count, _OCTAL))
