"""How long a request may be before it is whole, by who sends it."""

from typing import NamedTuple, cast

import pytest

from ovl_linkd.service.peer import MOST_BYTES, MOST_MARKS, Incoming, Peer


class Someone(NamedTuple):
    """What counts of a Peer."""

    trusted: bool


ROOT, STRANGER = Someone(trusted=True), Someone(trusted=False)


def incoming(who: Someone) -> Incoming:
    return Incoming(cast("Peer", who))


@pytest.mark.parametrize("who", [ROOT, STRANGER], ids=["root", "stranger"])
def test_a_request_that_has_no_end_is_taken_from_nobody(who: Someone) -> None:
    request = incoming(who)
    assert request.takes(b"x" * MOST_BYTES)
    assert not request.takes(b"x")


@pytest.mark.parametrize("mark", [b",", b"\\"])
def test_a_stranger_s_may_not_take_long_to_understand(mark: bytes) -> None:
    assert incoming(ROOT).takes(mark * (MOST_MARKS + 1))
    request = incoming(STRANGER)
    assert request.takes(b"x" + mark * MOST_MARKS)
    assert request.takes(b"x")
    assert not request.takes(mark)


def test_what_was_whole_counts_no_more() -> None:
    request = incoming(STRANGER)
    assert request.takes(b"," * MOST_MARKS)
    assert request.takes(b",\0" + b"," * MOST_MARKS)
    assert not request.takes(b",")
    assert request.takes(b"\0")
    assert request.takes(b"x" * MOST_BYTES)
