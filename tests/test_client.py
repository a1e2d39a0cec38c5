"""The blocking client against servers that are slow, wrong or gone."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ovl_linkd import client
from ovl_linkd.client import CallError, NoAnswer, NotRunning

Serve = Callable[[socket.socket], None]


@contextmanager
def served(directory: Path, serve: Serve) -> Iterator[str]:
    """A server at the path that is given, which serves one connection by SERVE."""
    path = str(directory / "sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield path
        thread.join()


def _answers(*replies: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        for reply in replies:
            connection.sendall(reply)

    return serve


def _reply(**reply: Any) -> bytes:
    return json.dumps(reply).encode() + b"\0"


def test_a_call_is_one_message_of_the_interface(tmp_path: Path) -> None:
    asked = []

    def serve(connection: socket.socket) -> None:
        asked.append(connection.recv(65_536))
        connection.sendall(_reply(parameters={"links": []}))

    with served(tmp_path, serve) as path:
        assert client.call(path, "Status", names=["one"]) == {"links": []}
    (message,) = asked
    assert message.endswith(b"\0")
    assert json.loads(message[:-1]) == {
        "method": "org.ovl-linkd.Control.Status",
        "parameters": {"names": ["one"]},
        "more": False,
    }


def test_an_answer_may_come_in_any_pieces(tmp_path: Path) -> None:
    whole = _reply(parameters={"a": "ä" * 100})

    def serve(connection: socket.socket) -> None:
        connection.recv(65_536)
        for number in range(len(whole)):
            connection.sendall(whole[number : number + 1])

    with served(tmp_path, serve) as path:
        assert client.call(path, "Status") == {"a": "ä" * 100}


def test_replies_are_followed_until_the_last(tmp_path: Path) -> None:
    replies = [_reply(parameters={"n": n}, continues=n < 3) for n in range(4)]
    with served(tmp_path, _answers(b"".join(replies))) as path:
        assert [reply["n"] for reply in client.follow(path, "Monitor")] == [0, 1, 2, 3]


@pytest.mark.parametrize("what", ["nothing", "a dead socket", "a file on the way"])
def test_nobody_there_is_not_running(tmp_path: Path, what: str) -> None:
    path = tmp_path / "sock"
    if what == "a dead socket":
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(str(path))
    elif what == "a file on the way":
        path.touch()
        path /= "sock"
    with pytest.raises(NotRunning, match="nobody listens at"):
        client.call(str(path), "Status")


@pytest.mark.parametrize(
    "reply",
    [b"", b"half", b"no JSON\0", b"[]\0", b"\0", b'{"parameters": 1}\0', b"\xff\0"],
    ids=range(7),
)
def test_an_answer_that_is_none_is_said_to_be_none(tmp_path: Path, reply: bytes) -> None:
    with served(tmp_path, _answers(reply)) as path, pytest.raises(NoAnswer):
        client.call(path, "Status")


def test_a_server_that_says_nothing_is_waited_for_and_no_longer(tmp_path: Path) -> None:
    """A daemon that was stopped by SIGSTOP, or swapped out: the socket still takes calls."""

    def serve(connection: socket.socket) -> None:
        while connection.recv(65_536):
            pass

    with (
        served(tmp_path, serve) as path,
        pytest.raises(NoAnswer, match=r"does not answer within 0.05 s"),
    ):
        client.call(path, "Status", timeout=0.05)


def test_an_answer_without_an_end_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_MOST", 1_000_000)

    def serve(connection: socket.socket) -> None:
        try:
            while True:
                connection.sendall(b"x" * 65_536)
        except OSError:
            pass

    with served(tmp_path, serve) as path, pytest.raises(NoAnswer, match="no end"):
        client.call(path, "Status")


def test_an_error_comes_with_its_parameters(tmp_path: Path) -> None:
    answer = _reply(error="org.ovl-linkd.Control.NoSuchLink", parameters={"name": "x"})
    with served(tmp_path, _answers(answer)) as path, pytest.raises(CallError) as caught:
        client.call(path, "Status")
    assert (caught.value.name, caught.value.parameters) == ("NoSuchLink", {"name": "x"})
    other = _reply(error="org.varlink.service.PermissionDenied")
    os.unlink(tmp_path / "sock")
    with served(tmp_path, _answers(other)) as path, pytest.raises(CallError) as caught:
        client.call(path, "Repair")
    assert caught.value.name == "org.varlink.service.PermissionDenied"


def test_who_listens_is_told_without_a_call(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    assert not client.listens(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)
        assert client.listens(path)
    assert not client.listens(path), "a stale socket"


def test_a_path_that_no_socket_can_have_is_an_answer_too() -> None:
    """sockaddr_un takes 107 bytes (unix(7))."""
    with pytest.raises(NoAnswer):
        client.call("/run/" + "x" * 200, "Status")
