"""The configuration read by a child process, while the links are kept."""

import asyncio

from ovl_linkd.config import Config, apart


async def read_config(file: str | None) -> Config:
    """As config.load(); the event loop goes on meanwhile. Raises config.ConfigError."""
    try:
        return await _read(file)
    except OSError as error:
        raise apart.no_child(file, error) from None


async def _read(file: str | None) -> Config:
    loop = asyncio.get_running_loop()
    reading = apart.Reading(file)
    whole = loop.create_future()

    def take() -> None:
        try:
            if not reading.more():
                whole.set_result(None)
        except OSError as error:
            whole.set_exception(error)

    try:
        loop.add_reader(reading, take)
        try:
            await whole
        finally:
            loop.remove_reader(reading)
    except BaseException:
        reading.abandon()
        raise
    return reading.outcome()
