"""`ovl-linkd`: one table of subcommands, each imported only when it is called."""

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING

from ovl_linkd.errors import UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser, HelpFormatter

#: subcommand -> one line about it; the code is in ovl_linkd.commands.SUBCOMMAND
COMMANDS = {
    "run": "keep the links: the daemon, in the foreground",
    "status": "show every link as it is on disk, beside what the daemon says",
    "rewrite": "shorten overlay mount options, or undo it",
    "check": "validate the configuration, without a daemon",
    "repair": "put links right now",
    "tmpfiles": "print the links as lines for systemd-tmpfiles, or install these",
    "guard": "make the directories of guarded links and of the farm append-only, or not",
    "reload": "have the daemon read its configuration anew",
    "doctor": "what limits overlay mounts on this machine, what is already wrong, what mends it",
    "init": "find this machine's layer stores and write a configuration; print drop-ins",
    "exec": "run a command with its oversized overlay mounts caught and shortened",
    "demo": "show the whole story on real mounts, leaving nothing behind",
}
USAGE = 2  # exit code of a wrong call


def parser(name: str) -> "ArgumentParser":
    """The argument parser of the subcommand NAME."""
    from argparse import ArgumentParser

    module = import_module(f"ovl_linkd.commands.{name}")
    made = ArgumentParser(
        prog=f"ovl-linkd {name}",
        description=COMMANDS[name],
        epilog=module.__doc__,
        formatter_class=_formatter,
    )
    made.add_argument(
        "--config", type=_file, metavar="FILE", help="read this one configuration file"
    )
    module.arguments(made)
    return made


def _file(name: str) -> str:
    """NAME, of a file; what is empty is a variable that was never set, and means no file."""
    from argparse import ArgumentTypeError

    if not name:
        raise ArgumentTypeError("an empty name")
    return name


def _formatter(prog: str) -> "HelpFormatter":
    """With a width given: to find one, argparse imports shutil and with it every compressor."""
    from argparse import RawDescriptionHelpFormatter

    return RawDescriptionHelpFormatter(prog, width=100)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ARGUMENTS (default: this process'); the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    _prepare_output()
    name, failed = words[0] if words else "--help", 1
    if name not in (*COMMANDS, *_ABOUT):
        return _unknown(name)
    try:
        if name in _ABOUT:
            print(_ABOUT[name](), flush=True)
            return 0 if words else USAGE
        module = import_module(f"ovl_linkd.commands.{name}")
        failed = getattr(module, "FAILED", failed)
        quick = getattr(module, "quick", None)
        options = (quick and quick(words[1:])) or parser(name).parse_args(words[1:])
        code: int = module.run(options)
        print(end="", flush=True)
        return code
    except UserError as error:
        return _complain(name, error)
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep the interpreter from saying so at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _complain(name, _said(error, failed))
    except KeyboardInterrupt:
        return 130


def _prepare_output() -> None:
    if sys.stdout is None:  # closed by the caller: nobody reads it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:  # print(file=None) would put complaints among the results
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale may not know our letters


def script() -> None:
    """What the installed command calls: main(), then the end of the process.

    A command that lives for 20 ms has nothing that the interpreter must take apart piece by piece
    at exit; leaving that out saves a tenth of its life.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            print(end="", file=stream, flush=True)
        except OSError:
            pass  # nobody reads it any more
    os._exit(code)


def _said(error: OSError, code: int) -> UserError:
    """ERROR as a person wants it: without its number, with its file and what helps."""
    import errno

    hints = {
        errno.ENOSPC: "make room there",
        errno.EDQUOT: "make room there, or raise the quota",
        errno.EROFS: "mount it read-write",
        errno.EACCES: "use sudo",
        errno.EPERM: "use sudo",
        errno.EMFILE: "raise ulimit -n",
    }
    what = error.strerror or str(error)
    if isinstance(error.filename, (str, bytes)):
        what += f": {os.fsdecode(error.filename)}"
    return UserError(what, hints.get(error.errno or 0, ""), code)


def _complain(name: str, error: UserError) -> int:
    from ovl_linkd.text import printable

    for line in error.what.splitlines():
        print(f"ovl-linkd {name}: {printable(line)}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {printable(error.hint)}", file=sys.stderr)
    return error.code


def _overview() -> str:
    lines = [f"  {name:<9} {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ovl-linkd COMMAND [--help] [--config FILE] ...",
            "",
            "Keeps short symlinks to long layer paths, and puts them into overlay mount options.",
            "",
            *lines,
        ]
    )


def _version() -> str:
    from ovl_linkd import __version__

    return f"ovl-linkd {__version__}"


#: what stands in a command's place -> what it prints
_ABOUT = {
    **dict.fromkeys(("-h", "--help", "help"), _overview),
    **dict.fromkeys(("-V", "--version"), _version),
}


def _unknown(name: str) -> int:
    from difflib import get_close_matches

    from ovl_linkd.text import printable

    near = get_close_matches(name, COMMANDS, 1)
    print(f"ovl-linkd: no command named {printable(name)}", file=sys.stderr)
    hint = f"did you mean {near[0]}?" if near else "ovl-linkd --help lists them"
    if name.startswith("-"):
        hint = "the command comes first: ovl-linkd COMMAND [--config FILE] ..."
    print(f"  hint: {hint}", file=sys.stderr)
    return USAGE
