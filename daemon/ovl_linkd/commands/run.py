"""The daemon keeps the links until SIGTERM; the links stay. SIGHUP reads the configuration anew."""

from argparse import ArgumentParser, Namespace


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

    from ovl_linkd.config import ConfigError
    from ovl_linkd.errors import UserError
    from ovl_linkd.service.loop import Service

    os.umask(0o022)
    try:
        service = Service(options.config)
    except ConfigError as error:
        problems = "\n".join(str(problem) for problem in error.problems)
        raise UserError(problems, "the links on disk stay as they are; ovl-linkd check") from None
    asyncio.run(service.run())
    return 0
