"""One client's calls: told apart, understood and answered each in its turn, and read no further."""

import asyncio
import json
from typing import Any, NamedTuple, cast

import pytest

from ovl_linkd.service import turns
from ovl_linkd.service.calls import (
    MOST_BYTES,
    MOST_MARKS,
    MOST_METHOD,
    MOST_OF_A_STRANGER,
    MOST_PARTS,
    Calls,
)
from ovl_linkd.service.peer import Peer
from ovl_linkd.service.turns import Turns


class Someone(NamedTuple):
    """What counts of a Peer."""

    uid: int
    trusted: bool


ROOT, STRANGER = Someone(0, trusted=True), Someone(1001, trusted=False)


class Client:
    """A transport that says what was done, and the calls that were answered by it."""

    def __init__(self, who: Someone = ROOT) -> None:
        self.done: list[str] = []
        self.looks: list[int] = []  # at the links: how many calls were answered by then
        self.answers: list[asyncio.Future[None] | None] = []
        self.closed = self.reading = False
        turns = Turns(lambda: self.looks.append(len(self.done)))
        self.calls = Calls(turns, cast("Peer", who), self, self.answer)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def answer(self, call: dict[str, Any]) -> asyncio.Future[None] | None:
        self.done.append(call["method"])
        return self.answers.pop(0) if self.answers else None


def call(method: str, **more: str) -> bytes:
    return json.dumps({"method": method, **more}).encode() + b"\0"


async def some_turns() -> None:
    """More turns of the loop than anything here takes, and no time."""
    for _ in range(20):
        await asyncio.sleep(0)


def after(*said: bytes, who: Someone = ROOT) -> Client:
    """How things are when WHO has SAID that, and some turns of the loop later."""

    async def main() -> Client:
        client = Client(who)
        for each in said:
            client.calls.said(each)
        await some_turns()
        return client

    return asyncio.run(main())


@pytest.mark.parametrize("who", [ROOT, STRANGER], ids=["root", "stranger"])
def test_links_go_before_whatever_comes_once(who: Someone) -> None:
    half, other = call("a")[:5], call("a")[5:]
    assert after(call("a"), who=who).looks == [0]
    assert after(half, other, who=who).looks == [0, 0]
    assert after(call("a") + call("b"), who=ROOT).looks == [0, 1]
    assert after(call("a"), call("b"), who=ROOT).looks == [0, 1]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_calls_are_answered_in_their_order_however_they_come(size: int) -> None:
    text = b"".join(map(call, "abc"))
    client = after(*[text[at : at + size] for at in range(0, len(text), size)])
    assert (client.done, client.reading, client.closed) == (["a", "b", "c"], True, False)


def test_one_is_answered_in_a_turn_of_the_loop() -> None:
    """Or links would wait for all that somebody asked at once."""

    async def main() -> None:
        client = Client()
        client.calls.said(call("a") + call("b") + call("c"))
        assert (client.done, client.reading) == (["a"], False)
        await asyncio.sleep(0)
        assert client.done == ["a", "b"]

    asyncio.run(main())


def test_nothing_is_read_until_the_answer_is_taken() -> None:
    async def main() -> None:
        client = Client()
        taken = asyncio.get_running_loop().create_future()
        client.answers.append(taken)
        client.calls.said(call("a"))
        client.calls.said(call("b"))
        await some_turns()
        assert (client.done, client.reading) == (["a"], False)
        assert client.looks == [0, 1], "it came, and has not had its turn"
        taken.set_result(None)
        await some_turns()
        assert (client.done, client.reading) == (["a", "b"], True)

    asyncio.run(main())


@pytest.mark.parametrize("junk", [b"", b"no call", b"[]", b"0", b"\xff", b"[" * 9999, b"9" * 9999])
def test_what_is_no_call_ends_it_and_what_follows_is_not_looked_at(junk: bytes) -> None:
    client = after(junk + b"\0" + call("a"))
    assert (client.done, client.closed) == ([], True)


@pytest.mark.parametrize("who", [ROOT, STRANGER], ids=["root", "stranger"])
def test_a_call_that_has_no_end_is_taken_from_nobody(who: Someone) -> None:
    assert not after(b"x" * MOST_BYTES, who=who).closed
    assert after(b"x" * MOST_BYTES, b"x", who=who).closed


@pytest.mark.parametrize(
    ("what", "most"),
    [
        (",", MOST_MARKS - 2),
        ("\\\\", MOST_MARKS // 2 - 1),
        ("[", MOST_MARKS - 2),
        ("{", MOST_MARKS - 2),
        ("/", MOST_PARTS - 2),
        (":", MOST_PARTS - 2),
        ("x", MOST_OF_A_STRANGER - 30),
    ],
)
def test_a_stranger_s_may_not_take_long_to_understand(what: str, most: int) -> None:
    """A quarter of a mebibyte of brackets was 25 ms without a look at a link."""
    text = '{"method":"a","parameters":"%s"}\0'
    for who, more, answered in ((ROOT, 99, ["a"]), (STRANGER, 0, ["a"]), (STRANGER, 2, [])):
        client = after((text % (what * (most + more))).encode(), who=who)
        assert (client.done, client.closed) == (answered, not answered)


def test_500_layers_are_not_too_much_for_a_stranger() -> None:
    layers = [f"/var/lib/a/store/of/layers/snapshots/{number:076d}/fs" for number in range(500)]
    for options in ("lowerdir=" + ":".join(layers), ",lowerdir+=".join(["rw", *layers])):
        assert after(call("a", options=options), who=STRANGER).done == ["a"]


def test_a_method_has_no_endless_name() -> None:
    assert after(call("a" * MOST_METHOD)).done == ["a" * MOST_METHOD]
    assert after(call("a" * (MOST_METHOD + 1))).closed


def test_digits_are_not_counted_out() -> None:
    """Of 57 numbers with 4,300 each that took 6 ms."""
    text = b'{"method":"a","parameters":%b}' % (b"9" * 5000)
    assert after(text + b"\0").done == ["a"]


def test_a_stranger_s_words_wait_for_their_turn_before_they_are_understood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NUL bytes are a thousand messages a kilobyte, and each takes its time."""
    monkeypatch.setattr(turns, "REST", 1e9)  # or on a busy machine its turn might come

    async def main() -> None:
        client = Client(STRANGER)
        client.calls.said(call("a") + b"\0")
        await asyncio.sleep(0)
        assert (client.done, client.closed, client.reading) == (["a"], False, False)

    asyncio.run(main())
