"""Lines of fstab that are longer than what systemd's generator reads.

systemd-fstab-generator reads by getmntent(3), whose buffer holds 4,096 bytes, and drops the rest
of a line without an error; what mounts at boot is then another overlay, or none.
"""

import os

from ovl_linkd.doctor.finding import NOTE, OK, UNKNOWN, WRONG, Finding
from ovl_linkd.formats.fstab import MOST_IN_LINE as MOST

PATH = "/etc/fstab"


def findings(path: str = PATH) -> list[Finding]:
    """A finding for each line of PATH that would be cut."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return [Finding(NOTE, f"there is no {path}")]
    except OSError as error:
        return [Finding(UNKNOWN, f"{path}: {error.strerror}", "", "run it as root")]
    found = []
    for number, line in enumerate(lines, 1):
        if len(line) > MOST and not line.lstrip().startswith(b"#"):
            found.append(_of(path, number, line))
    return found or [Finding(OK, f"{path}: no line is longer than {MOST:,} bytes")]


def _of(path: str, number: int, line: bytes) -> Finding:
    fields = line.split()
    target = os.fsdecode(fields[1]) if len(fields) > 1 else "?"
    what = f"{path}:{number}: {len(line):,} bytes, of which systemd's generator reads {MOST:,}"
    why = f"at boot {target} is mounted from what is left of the line, or not at all"
    mend = "write a .mount unit instead, or shorten the line: ovl-linkd rewrite --as fstab"
    return Finding(WRONG, what, why, mend)
