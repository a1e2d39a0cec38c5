"""The configuration read by a child process, while the links are kept."""

import asyncio

from ovl_linkd.config import Config, ConfigError, Problem, apart


async def read_config(file: str | None) -> Config:
    """As config.load(); the event loop goes on meanwhile. Raises ConfigError."""
    loop = asyncio.get_running_loop()
    try:
        reading = apart.Reading(file)
    except OSError as error:
        what = f"there can be no process that reads it: {error.strerror}"
        raise ConfigError((Problem(file or "ovl-linkd", 0, 0, what, "try again"),)) from None
    whole = asyncio.Event()

    def take() -> None:
        if not reading.more():
            whole.set()

    loop.add_reader(reading, take)
    try:
        await whole.wait()
    finally:
        loop.remove_reader(reading)
    return reading.outcome()
