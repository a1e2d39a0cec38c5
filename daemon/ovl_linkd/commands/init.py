"""Without an option, writes the configuration to /etc/ovl-linkd/config.yaml, and the lines by which
systemd-tmpfiles makes its links at a boot (see tmpfiles); or the configuration alone to --config
FILE. What is there is never overwritten.

--drop-in UNIT prints what makes UNIT wait for the links it mounts through; for ovl-linkd.service,
what lets it write where links lie outside /run. --containerd prints what goes into containerd's
configuration, in the form that the file there has, and its drop-in; for a containerd before 1.5 a
drop-in that puts `ovl-linkd exec` in front of it.

Exit codes: 0 done, 1 it can't be done.
"""

import os
import re
import sys
from typing import TYPE_CHECKING

from ovl_linkd.errors import UserError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ovl_linkd.commands.init_drop_in import DropIn
    from ovl_linkd.config import Config
    from ovl_linkd.links.link import Link
    from ovl_linkd.machine.containerd import Containerd

FILE = "/etc/ovl-linkd/config.yaml"
GUARDED = "/run/ov/c"  # in a directory of its own, and as short as what it is offered instead of


def arguments(parser: "ArgumentParser") -> None:
    """Declare the arguments."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--print", action="store_true", help="print the configuration only")
    what.add_argument("--containerd", action="store_true", help="print what containerd needs")
    what.add_argument("--drop-in", metavar="UNIT", help="print the drop-in for this unit")
    parser.add_argument("--write", action="store_true", help="put the drop-in in its place")
    parser.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="NAME",
        help="a link that UNIT needs; default: those that it mounts through",
    )


def run(options: "Namespace") -> int:
    """Print or write what was asked for; the exit code. Raises UserError."""
    from ovl_linkd.machine import containerd

    if options.link and options.drop_in is None:
        raise UserError("--link goes with --drop-in", "ovl-linkd init --help", 2)
    if options.write and options.drop_in is None and not options.containerd:
        raise UserError("--write goes with --drop-in and --containerd", "ovl-linkd init --help", 2)
    os.umask(0o022)  # what is written is for everybody to read
    its = containerd.read()
    if options.drop_in is not None:
        return _drop_in(options, its)
    if options.containerd:
        return _containerd(options, its)
    return _configuration(options, its)


def _configuration(options: "Namespace", its: "Containerd") -> int:
    from ovl_linkd.commands.init_config import text

    if its.trouble:
        print(f"ovl-linkd init: {its.source}: {its.trouble}; taking the default", file=sys.stderr)
    configuration = text(its)
    if options.print:
        print(configuration, end="")
        return 0
    file = os.path.abspath(options.config or FILE)
    _create(file, configuration)
    print(f"{file} written")
    from ovl_linkd.commands import tmpfiles
    from ovl_linkd.config import ConfigError, load

    try:
        load(file)
    except ConfigError as error:
        raise UserError(f"it can't be used yet:\n{error}", f"edit {file}") from None
    if not options.config and (done := tmpfiles.write()):
        # What boots next has the links, even if the service is enabled only then.
        print(done)
    print("to do: systemctl enable --now ovl-linkd, or systemctl reload ovl-linkd if it runs")
    return 0


def _create(file: str, text: str) -> None:
    """Write FILE, which must not exist. Raises UserError, OSError."""
    os.makedirs(os.path.dirname(file), exist_ok=True)
    try:
        # Neither what is there nor what a symlink there leads to is overwritten.
        stream = open(file, "x", encoding="utf-8")  # noqa: SIM115
    except FileExistsError:
        hint = "ovl-linkd init --print shows what it would be"
        raise UserError(f"{file} is there and is not overwritten", hint) from None
    try:
        with stream:
            stream.write(text)
    except OSError:
        os.unlink(file)  # half of it would be read, and be in the way of the next attempt
        raise


def _drop_in(options: "Namespace", its: "Containerd") -> int:
    from ovl_linkd.commands import init_drop_in as drop_ins
    from ovl_linkd.doctor.units import DAEMON
    from ovl_linkd.machine import containerd

    unit = drop_ins.full_name(options.drop_in)
    if unit == DAEMON:
        directories = _outside_run(options.config)
        if not directories:
            print("everything lies in /run: nothing has to be added", file=sys.stderr)
            return 0
        made = drop_ins.for_daemon(directories)
    else:
        links = _configured(options.config).links
        containerds = [its, *containerd.others()]
        made = drop_ins.for_user(unit, drop_ins.choose(unit, links, options.link, containerds))
    _put(made, write=options.write)
    return 0


def _put(made: "DropIn", *, write: bool) -> None:
    if write:
        from ovl_linkd.commands import init_drop_in

        print(init_drop_in.write(made))
    else:
        print(f"# {made.file}\n{made.text}", end="")


def _outside_run(config_file: str | None) -> list[str]:
    """The directories outside /run that the daemon has to write: for links, socket, metrics."""
    config = _configured(config_file)
    paths = [link.path for link in config.links]
    paths += config.others
    parents = dict.fromkeys(os.path.dirname(path) for path in paths)
    return [each for each in parents if not f"{os.path.realpath(each)}/".startswith("/run/")]


def _configured(config_file: str | None) -> "Config":
    """The configuration itself, whatever the daemon says of it: units are root's. UserError."""
    from ovl_linkd.config import ConfigError, load

    try:
        return load(config_file)
    except ConfigError as error:
        raise error.told(config_file) from None


def _containerd(options: "Namespace", its: "Containerd") -> int:
    from ovl_linkd.commands import init_drop_in as drop_ins
    from ovl_linkd.doctor.containerd import kept_root
    from ovl_linkd.machine.containerd import UNIT
    from ovl_linkd.machine.containerd_mounts import takes_root_path

    if fault := its.trouble or its.refused:
        raise UserError(f"{its.source}: {fault}", "containerd config dump, once it is mended")
    config = _configured(options.config)
    if its.release and not takes_root_path(its.release):
        if not config.links and config.farm is None:
            what = "neither a link nor a farm is configured"
            raise UserError(what, "ovl-linkd init --print shows the links that it needs")
        _put(_under_exec(UNIT), write=options.write)
        return 0
    link = kept_root(config.links, its)
    if link is None:
        raise UserError(
            f"no link leads to {its.snapshotter}, the root of containerd's snapshotter",
            "ovl-linkd init --print shows the one that is missing",
        )
    made = drop_ins.for_user(UNIT, [link])
    print(_offer(link), end="", file=sys.stderr)
    print(_fragment(link, its))
    _put(made, write=options.write)
    return 0


def _offer(link: "Link") -> str:
    """How LINK gets a guard; empty where it has one, or this kernel has none for /run."""
    from ovl_linkd.links.flags import is_append_only

    if link.guard != "none" or is_append_only("/run") is None:
        return ""
    return (
        f"# Mounts fail in the moment in which a cleaner has {link.path}. None gets it with\n"
        f"# links: {{{link.name}: {{path: {GUARDED}, guard: append-only}}}}\n"
        "# in /etc/ovl-linkd/config.yaml.d/guard.yaml: then systemctl reload ovl-linkd;\n"
        "# systemctl enable --now ovl-linkd-guard; and this again.\n"
    )


def _under_exec(name: str) -> "DropIn":
    """The drop-in that puts exec in front of what the unit NAME starts, if it isn't there yet."""
    import shutil

    from ovl_linkd.commands.init_drop_in import for_exec
    from ovl_linkd.machine import units

    unit = units.load(name) or units.Unit(name, "", ())
    start, called = ("".join(unit.values(key)[-1:]) for key in ("ExecStart", "SyslogIdentifier"))
    start = re.sub(r"\S*ovl-linkd\s+exec\s+(-\S+\s+)*", "", start)
    return for_exec(name, start, shutil.which("ovl-linkd") or "/usr/bin/ovl-linkd", called)


def _fragment(link: "Link", its: "Containerd") -> str:
    """What has containerd mount by LINK's path, for a file like that which it has."""
    import json

    from ovl_linkd.machine.containerd import CONFIGURATION

    # A TOML basic string is a JSON string here: a link's path has no control characters.
    line = f"  root_path = {json.dumps(link.path, ensure_ascii=False)}"
    if its.has_table:
        # A table that stands there twice is an error, with which containerd doesn't start.
        return f"# {CONFIGURATION}, in its table {its.table}, for any root_path there\n{line}\n"
    if its.found:
        return f"# {CONFIGURATION}, at its end\n{its.table}\n{line}\n"
    return f"# {CONFIGURATION}\nversion = 2\n\n{its.table}\n{line}\n"
