"""What the records of a soak mean: printed for people, and what is wrong with them."""

import math
import statistics
from collections.abc import Iterator, Mapping

from tests.endurance.crew import REST, Record

ROW = 10_000  # failures one after the other, each with its rest: that is no moment


def moments(cleaners: Mapping[str, Record]) -> int:
    """How often who goes by the bare link may have failed while CLEANERS removed it.

    Once in each moment without it, and again after each rest in one that was longer than that.
    Only rm's are timed; the others' are taken for as long.
    """
    removals = sum(len(record.seconds) for record in cleaners.values())
    away = [each for each in cleaners["rm"].seconds if each]
    return math.ceil(removals * (1 + statistics.mean(away) / REST)) if away else 0


def judged(name: str, may_fail: int, record: Record) -> Iterator[str]:
    """Print what the way NAME came to; what was not as it must be: at most MAY_FAIL failures."""
    failed, tries = record.failures.total(), record.tries
    spent = f"{statistics.median(record.seconds) * 1000:.2f} ms" if record.seconds else "never"
    share = 100 * failed / tries if tries else 0
    print(f"{name}: {tries:,} times, {failed:,} failed ({share:.3f} %), median {spent}")
    for said, count in record.failures.most_common():
        print(f"  {count:,} times: {said}")
    if failed > may_fail:
        more = f", in {may_fail:,} moments without the link" if may_fail else ""
        yield f"{name} failed {failed:,} times{more}"
    if record.row > ROW:
        yield f"{name} failed {record.row:,} times in a row"
    if not record.seconds:
        yield f"{name} never mounted"


def cleaned(records: dict[str, Record], seconds: float) -> Iterator[str]:
    """Print how long the link was away, as far as it can be timed; what was not as it must be."""
    for name, record in records.items():
        print(f"{name}: {len(record.seconds):,} times")
        for said in record.failures:
            yield f"{name}: {said}"
    away = sorted(each for each in records["rm"].seconds if each)
    if not away:
        yield "rm never found the link"
        return
    p99 = away[max(0, len(away) * 99 // 100 - 1)]
    print(
        f"after rm the link was away for {statistics.median(away) * 1e6:,.0f} µs (p99 "
        f"{p99 * 1e6:,.0f}), {100 * sum(away) / seconds:.2f} % of the time"
    )
