"""The daemon keeps the links until SIGTERM; the links stay. SIGHUP reads the configuration anew.

Exit codes: 0 told to stop, 78 the configuration is faulty, 1 it can't start for another reason,
such as a lack of memory, or gave up after too many unexpected errors.
"""

from argparse import ArgumentParser, Namespace

FAULTY = 78  # EX_CONFIG (sysexits.h): the unit is not started again for it


def arguments(_parser: ArgumentParser) -> None:
    """No arguments of its own."""


def run(options: Namespace) -> int:
    """Run the daemon in the foreground. Raises UserError if it can't start."""
    import os
    import sys

    # asyncio imports ssl if it finds it: 4 MB of resident memory for a service that only ever
    # speaks on a unix socket. asyncio works without it, as where Python is built without OpenSSL.
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
    import asyncio

    from ovl_linkd.config import ConfigError, check_of
    from ovl_linkd.errors import UserError
    from ovl_linkd.service.loop import Service
    from ovl_linkd.service.systemd import notify
    from ovl_linkd.text import printable

    os.umask(0o022)
    try:
        service = Service(options.config)
        with asyncio.Runner(loop_factory=service.event_loop) as runner:
            runner.get_loop()  # may fail, and then there must be no coroutine that nobody awaits
            runner.run(service.run())
    except ConfigError as error:
        more = f" (and {len(error.problems) - 1} more)" if error.problems[1:] else ""
        how = "can't be read" if error.passing else "faulty"
        notify(printable(f"STATUS=configuration {how}: {error.problems[0]}{more}"))
        hint = f"the links on disk stay as they are; {check_of(options.config)}"
        raise UserError(str(error), hint, 1 if error.passing else FAULTY) from None
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        hint = "see what the machine lacks; systemd starts the service again after a second"
        raise UserError(f"{error.strerror}{where}", hint) from None
    except UserError as error:
        notify(printable(f"STATUS={error.what}"))
        raise
    return 0
