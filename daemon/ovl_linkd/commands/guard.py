"""With "guard: append-only" in the configuration, nobody can remove or replace an entry of the farm
any more, neither a cleaner nor the daemon: nothing expires there before the next boot. Without it
the directory is as any other again. ovl-linkd-guard.service runs this at boot, at a reload, and
with --off when it is stopped; it needs CAP_LINUX_IMMUTABLE, which the daemon doesn't have.

Configuration in /run does not count: the daemon could write there, and this may do more than it.
Exit codes: 0 done, or nothing to do; 1 it can't be done, or the configuration is faulty.
"""

import errno
import os
from argparse import ArgumentParser, Namespace

from ovl_linkd import config, config_files
from ovl_linkd.errors import UserError
from ovl_linkd.links.flags import set_append_only
from ovl_linkd.links.plot import Plot

_REMEDIES = {
    errno.EPERM: "run it as root, with CAP_LINUX_IMMUTABLE",
    errno.EACCES: "run it as root",
    errno.EROFS: "let the unit write there: ReadWritePaths= of ovl-linkd-guard.service",
    errno.ENOENT: "start the daemon first: it makes the directory",
}
_NO_FLAG = "tmpfs has it from Linux 6.0 on, ext4, XFS and Btrfs have it: set guard to none, or move"


def arguments(parser: ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--off", action="store_true", help="whatever the configuration says")


def run(options: Namespace) -> int:
    """Have the farm's directory append-only, or not, as the configuration says."""
    farm = _configured(options.config)
    if farm is None:
        print("no farm is configured: nothing to guard")
        return 0
    wanted = farm.guard == "append-only" and not options.off
    if not wanted and not os.path.lexists(farm.path):
        return 0
    if obstacle := Plot(farm.path).obstacle():
        raise UserError(obstacle.reason, obstacle.remedy)
    try:
        changed = set_append_only(farm.path, wanted)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, f"{_NO_FLAG} the farm")
        raise UserError(f"{error.strerror}: {farm.path}", remedy) from None
    if changed or wanted:
        print(f"{farm.path}: {'append-only' if wanted else 'not append-only any more'}")
    return 0


def _configured(file: str | None) -> config.Farm | None:
    try:
        return config.load(file, roots=config_files.LASTING).farm
    except config.ConfigError as error:
        problems = "\n".join(str(problem) for problem in error.problems)
        raise UserError(problems, "ovl-linkd check") from None
