"""Lines of tmpfiles.d(5) for every link: systemd-tmpfiles then makes it before anything mounts, and
never takes it for old; nor what lies in the farm. The service runs this with --write when it has
started or reloaded; before its first start `ovl-linkd init` and the installation have done it.

The file is also what a boot starts from when it meets a configuration that is broken.
Exit codes: 0 done, 1 the configuration is faulty or the file can't be written.
"""

import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable

from ovl_linkd import published
from ovl_linkd.errors import UserError
from ovl_linkd.links import ledger
from ovl_linkd.links.link import Link
from ovl_linkd.replacing import content, replace

NAME = "ovl-linkd.conf"
#: where administrators and, since nothing else outlives a boot, programs put lines of their own
DIRECTORY = "/etc/tmpfiles.d"
#: where packages put theirs; a file of the same name in DIRECTORY hides them
PACKAGED = ("/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d")
#: the first line of a file that may be replaced, or removed by who takes the program away
MARK = "# Written by ovl-linkd tmpfiles --write; remove this line to keep your changes."

_PLAIN = frozenset(
    b"/-_.,:=+@~" + bytes(range(48, 58)) + bytes(range(65, 91)) + bytes(range(97, 123))
)


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"into {DIRECTORY}/{NAME}, unless the packaged lines say the same",
    )


def run(options: Namespace) -> int:
    """Print the lines, or write them where systemd-tmpfiles finds them."""
    if options.write and options.config:
        hint = "print the lines, and put them into a file of another name"
        raise UserError("--write is for the standard configuration only", hint, 2)
    if not options.write:
        known = published.known(options.config)
        print(lines(known.links, known.farm), end="")
        return 0
    if done := write():
        print(done)
    return 0


def write() -> str | None:
    """Have NAME in DIRECTORY say what the standard configuration does; what was done, None if
    nothing had to be. Raises UserError.
    """
    text = lines(*_lasting())
    path = f"{DIRECTORY}/{NAME}"
    try:
        return _write(text, path)
    except OSError as error:
        hint = "the links are kept, but at the next boot made only when the daemon starts"
        raise UserError(f"{error.strerror}: {error.filename or path}", hint) from None


def _lasting() -> tuple[tuple[Link, ...], str | None]:
    """The links, and the farm, of the configuration without what lies in /run.

    That doesn't outlive a boot, and what is written here does. It is also where the sandboxed
    daemon may write: what root does at boot must not be up to it, and so not to what it publishes.
    """
    from ovl_linkd import config, config_files

    try:
        lasting = config.load(None, roots=config_files.LASTING)
    except config.ConfigError as error:
        raise error.told(None) from None
    return lasting.links, lasting.farm.path if lasting.farm else None


def lines(links: Iterable[Link], farm: str | None = None) -> str:
    """One line a link: type L, never L+, which would remove what is in the link's place.

    Of the directory FARM, and of the ledger beside it, only the age is to be left out of account:
    type x. One that systemd-tmpfiles made at boot would look as if it had lost its ledger.
    """
    text = "".join(f"L {_path(link.path)} - - - - {_argument(link.target)}\n" for link in links)
    for path in (farm, ledger.path_of(farm)) if farm else ():
        text += f"x {_glob(path)}\n"
    return text


def _glob(path: str) -> str:
    """PATH where a pattern may stand (glob(7))."""
    return _path(re.sub(r"([*?\[])", r"[\1]", path))


def _path(path: str) -> str:
    """PATH as that field is read: one word, in which quotes join and `%` starts a specifier.

    systemd 252 knows no C escape there, and a link's path holds nothing else that needs one.
    """
    return re.sub("([\"'])", r"\\\1", path).replace("%", "%%")


def _argument(target: str) -> str:
    """TARGET as the last field is read: C escapes first, then `%` starts a specifier."""
    return "".join(
        chr(byte) if byte in _PLAIN else "%%" if byte == ord("%") else f"\\x{byte:02x}"
        for byte in os.fsencode(target)
    )


def _write(text: str, path: str) -> str | None:
    """Have PATH say TEXT, atomically, and tell what was done if anything was. Raises OSError."""
    present = content(path)
    if present is not None and present.partition("\n")[0] != MARK:
        return f"{path} was not written by ovl-linkd and is left alone"
    packaged = next(filter(None, (content(f"{place}/{NAME}") for place in PACKAGED)), "")
    if _meant(packaged) == _meant(text):
        if present is None:
            return None
        os.unlink(path)
        return f"removed {path}: the packaged lines say the same"
    wanted = f"{MARK}\n{text}"
    if present == wanted:
        return None
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    # Durable, since what is half written at a crash must not be what boots next.
    replace(path, wanted, durable=True)
    return f"wrote {path}"


def _meant(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]
