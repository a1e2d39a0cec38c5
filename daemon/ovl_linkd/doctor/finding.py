"""What the doctor has to say."""

from typing import NamedTuple

OK = "ok"
#: how things are, and what would help; nothing is wrong
NOTE = "note"
#: may be wrong: only a person can tell
MAYBE = "maybe"
#: certainly wrong, or sure to go wrong: something to mend
WRONG = "wrong"
#: could not be looked into
UNKNOWN = "unknown"


class Finding(NamedTuple):
    """One finding. ``level``: one of the above. ``what``: a sentence; ``why``: what comes of it.

    ``mend``: the line that mends it, a command or a line for a file, empty where nothing is to do.
    Texts may hold paths of anybody's making.
    """

    level: str
    what: str
    why: str = ""
    mend: str = ""
