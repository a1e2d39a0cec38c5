"""What the records of a soak mean: printed for people, and what is wrong with them."""

import statistics
from collections.abc import Iterator

from tests.endurance.crew import Record

ROW = 10_000  # failures one after the other, each with a millisecond's rest: that is no moment


def judged(name: str, may_fail: bool, record: Record) -> Iterator[str]:
    """Print what the way NAME came to; what was not as it must be."""
    failed, tries = record.failures.total(), record.tries
    spent = f"{statistics.median(record.seconds) * 1000:.2f} ms" if record.seconds else "never"
    share = 100 * failed / tries if tries else 0
    print(f"{name}: {tries:,} times, {failed:,} failed ({share:.3f} %), median {spent}")
    for said, count in record.failures.most_common():
        print(f"  {count:,} times: {said}")
    if failed and not may_fail:
        yield f"{name} failed {failed:,} times"
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
