"""The control socket, where what it stands on fails it."""

import asyncio
import errno
import fcntl
import os
import socket
from pathlib import Path

import pytest

from ovl_linkd.service import socket as control
from ovl_linkd.service.peer import Peer
from ovl_linkd.service.socket import TOO_MANY_KEPT, Connection, ControlSocket


def nobody(_connection: socket.socket, _peer: Peer) -> Connection:
    raise AssertionError("nobody was to come")


def unsaid(_trouble: str | None) -> None: ...


def connected(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    return client


def test_what_was_made_while_we_waited_for_the_lock_is_known_for_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that ends just then. In the sandbox its socket can't be tried out, and stayed."""
    path = str(tmp_path / "s")
    lock = tmp_path / "s.lock"

    def let_go(_file: int, _how: int) -> None:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        status = os.lstat(path)
        lock.write_text(f"7 {status.st_dev} {status.st_ino}\n")

    def refuse(*_arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(fcntl, "flock", let_go)
    monkeypatch.setattr(socket.socket, "connect", refuse)

    async def scenario() -> None:
        made = ControlSocket(path, nobody, unsaid)
        made.open()
        made.close()

    asyncio.run(scenario())
    assert not os.path.lexists(path)


def test_a_socket_that_can_t_be_removed_keeps_nobody_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit counted as failed where /run had become read-only, and nobody was sent away."""
    path = str(tmp_path / "s")

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    async def scenario() -> None:
        made = ControlSocket(path, nobody, unsaid)
        made.open()
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", refuse)
            made.close()
        after = ControlSocket(path, nobody, unsaid)
        after.open()
        after.close()

    asyncio.run(scenario())
    assert not os.path.lexists(path)


def test_a_socket_that_could_not_be_listened_to_again_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the pause that follows a connection that was refused: nobody was ever answered."""
    path = str(tmp_path / "s")
    troubles: list[object] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        came = loop.create_future()

        def attach(connection: socket.socket, _peer: Peer) -> Connection:
            connection.close()
            came.set_result(None)
            return Connection(came, nothing)

        loop.set_exception_handler(lambda _, context: troubles.append(context["exception"]))
        made = ControlSocket(path, attach, unsaid)
        made.open()
        made.serve()
        with monkeypatch.context() as patch, connected(path):
            patch.setattr(control, "MOST_CONNECTIONS", 0)
            patch.setattr(loop, "add_reader", refuse)
            while not troubles:
                await asyncio.sleep(0.001)
        made.ensure()
        with connected(path):
            await asyncio.wait_for(came, 30)
        made.close()

    def nothing() -> None: ...

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    asyncio.run(scenario())
    assert [str(trouble) for trouble in troubles] == ["[Errno 12] Cannot allocate memory"]


@pytest.mark.parametrize("why", ["Too many open files", TOO_MANY_KEPT])
def test_that_nobody_is_let_in_is_said_until_somebody_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Only who waited in vain knew of it."""
    path = str(tmp_path / "s")
    said: list[str | None] = []

    async def scenario() -> None:
        came = asyncio.get_running_loop().create_future()

        def attach(connection: socket.socket, _peer: Peer) -> Connection:
            connection.close()
            came.set_result(None)
            return Connection(came, lambda: None)

        made = ControlSocket(path, attach, said.append)
        made.open()
        monkeypatch.setattr(control, "EXHAUSTED_REST", 0.01)
        with monkeypatch.context() as patch, connected(path):
            if why == TOO_MANY_KEPT:
                patch.setattr("ovl_linkd.service.kept.MOST", 0)
            else:
                patch.setattr(socket.socket, "accept", exhausted)
            made.serve()
            while len(said) < 2:
                await asyncio.sleep(0.001)
            made.ensure()
            assert set(said) == {f"the control socket lets nobody in: {why}"}
            patch.undo()
            await asyncio.wait_for(came, 30)
        made.ensure()
        assert said[-1] is None
        made.close()

    def exhausted(_socket: socket.socket) -> tuple[socket.socket, object]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    asyncio.run(scenario())
