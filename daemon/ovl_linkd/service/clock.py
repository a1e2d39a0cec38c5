"""The daemon's clock, and what it says as a date."""

import time
from datetime import UTC, datetime


def clock() -> float:
    """Seconds since boot, suspended time included, so that what is said of the past stays true."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall(moment: float) -> str:
    """MOMENT of clock() as RFC 3339 in UTC."""
    date = datetime.fromtimestamp(time.time() - clock() + moment, UTC)
    return date.isoformat(timespec="milliseconds").replace("+00:00", "Z")
