"""The control socket as other programs meet it: the real library's client, raw bytes, and abuse."""

import asyncio
import errno
import fcntl
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from asyncvarlink import (
    VarlinkClientProtocol,
    VarlinkInterfaceProxy,
    VarlinkInterfaceRegistry,
    VarlinkInterfaceServerProtocol,
    connect_unix_varlink,
)
from asyncvarlink.serviceinterface import VarlinkServiceInterface

from ovl_linkd import client
from ovl_linkd.service.control import Control, PromptTransport
from ovl_linkd.service.kept import Kept, wait_and_end
from ovl_linkd.service.peer import DescriptorCame, Plain, stop_listening
from tests.daemon.world import Daemon, command, monitor, replies_of, send
from tests.others import NOBODY, as_user, held_by_a_stranger
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.needs("root")

CONTROL = "org.ovl-linkd.Control"


@pytest.fixture(scope="module")
def daemon_of_all(shared: Callable[[], Daemon]) -> Daemon:
    daemon = shared()
    (daemon.directory / "t").mkdir()
    daemon.write({"one": (daemon.directory / "one", daemon.directory / "t")})
    daemon.start(python=[sys.executable, "-W", "error"])
    return daemon


@pytest.fixture
def configured(daemon: Daemon) -> Daemon:
    (daemon.directory / "t").mkdir()
    daemon.write({"one": (daemon.directory / "one", daemon.directory / "t")})
    return daemon


@contextmanager
def connected(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(path)
        yield connection


def ask(path: str, method: str, **parameters: Any) -> dict[str, Any]:
    """One call by hand, whatever METHOD is; the whole reply."""
    with connected(path) as connection:
        send(connection, {"method": method, "parameters": parameters})
        return next(replies_of(connection))


def still_serves(daemon: Daemon) -> None:
    """Others get answers, and a link is still put right at once."""
    with daemon.repairing("one", "missing"):
        os.unlink(daemon.directory / "one")


def descriptors(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def resident(daemon: Daemon) -> int:
    """Bytes of memory that the daemon really has."""
    pages = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# --- the interface ---------------------------------------------------------------------------


def test_the_library_s_client_introspects_and_calls_it(daemon_of_all: Daemon) -> None:
    """As varlinkctl does: what the service says of itself is what it then understands."""

    async def talk() -> tuple[Any, Any, Any, Any]:
        transport, protocol = await connect_unix_varlink(
            VarlinkClientProtocol, daemon_of_all.socket
        )
        try:
            service = VarlinkInterfaceProxy(protocol, VarlinkServiceInterface)
            control = VarlinkInterfaceProxy(protocol, Control)
            info = await service.GetInfo()
            text = await service.GetInterfaceDescription(interface=CONTROL)
            return info, text, await control.Status(), await control.Repair(names=["one"])
        finally:
            transport.close()
            await transport.closed_future

    info, text, status, repaired = asyncio.run(talk())
    assert info["product"] == "ovl-linkd"
    assert info["interfaces"] == [CONTROL, "org.varlink.service"]
    description = text["description"]
    assert f"interface {CONTROL}" in description
    for method in ("Status", "Monitor", "Rewrite", "Lease", "Repair", "Reload"):
        assert f"method {method}(" in description
    assert status["daemon"].pid == daemon_of_all.pid
    assert [(link.name, link.state) for link in status["links"]] == [("one", "ok")]
    assert [link.state for link in repaired["links"]] == ["ok"]


def test_raw_bytes_get_an_answer(daemon_of_all: Daemon) -> None:
    """As a shell does it with socat; also byte by byte, and two calls in one write."""
    call = b'{"method":"org.ovl-linkd.Control.Status"}\0'
    with connected(daemon_of_all.socket) as connection:
        for number in range(len(call)):
            connection.sendall(call[number : number + 1])
        replies = replies_of(connection)
        assert set(next(replies)["parameters"]) == {"daemon", "links", "farm"}
        connection.sendall(call + call)
        assert [set(next(replies)) for _ in range(2)] == [{"parameters"}] * 2


def test_what_a_link_looks_like_on_the_wire(daemon_of_all: Daemon) -> None:
    """A contract: keys are added, never taken away."""
    link = daemon_of_all.link("one")
    assert {
        "name", "path", "target", "state", "actual", "target_exists", "since", "reason", "remedy",
        "next_try", "fighting", "repairs", "last_repair",
    } <= link.keys()  # fmt: skip
    assert link["last_repair"].keys() >= {"at", "found", "took_us"}
    daemon = daemon_of_all.call("Status")["daemon"]
    assert daemon.keys() >= {"pid", "version", "since", "config_changed_on_disk"}
    assert daemon["since"].endswith("Z")


@pytest.mark.parametrize(
    ("method", "parameters", "error"),
    [
        ("org.ovl-linkd.Control.Nothing", {}, "org.varlink.service.MethodNotFound"),
        ("org.example.Other.Status", {}, "org.varlink.service.InterfaceNotFound"),
        (f"{CONTROL}.Status", {"names": ["two"]}, f"{CONTROL}.NoSuchLink"),
        (f"{CONTROL}.Repair", {"names": ["two"]}, f"{CONTROL}.NoSuchLink"),
        (f"{CONTROL}.Status", {"names": "one"}, "org.varlink.service.InvalidParameter"),
        (f"{CONTROL}.Rewrite", {}, "org.varlink.service.InvalidParameter"),
        (f"{CONTROL}.Rewrite", {"options": "lowerdir=/a,\\"}, f"{CONTROL}.Malformed"),
        (f"{CONTROL}.Rewrite", {"options": "lowerdir=/a\0b"}, f"{CONTROL}.Malformed"),
        (f"{CONTROL}.Rewrite", {"options": "lowerdir=\ud800"}, f"{CONTROL}.Malformed"),
        (f"{CONTROL}.Rewrite", {"options": "lowerdir=/a", "when": "x"}, f"{CONTROL}.Malformed"),
        (f"{CONTROL}.Lease", {"paths": ["/a"]}, f"{CONTROL}.NoFarm"),
        (f"{CONTROL}.Monitor", {}, "org.varlink.service.ExpectedMore"),
    ],
)
def test_a_wrong_call_gets_an_error_and_not_the_end(
    daemon_of_all: Daemon, method: str, parameters: dict[str, Any], error: str
) -> None:
    assert ask(daemon_of_all.socket, method, **parameters)["error"] == error


def test_options_are_rewritten(daemon_of_all: Daemon) -> None:
    top = daemon_of_all.directory
    reply = ask(daemon_of_all.socket, f"{CONTROL}.Rewrite", options=f"lowerdir={top}/t/1:{top}/t/2")
    result = reply["parameters"]["result"]
    assert result["strategy"] in ("link", "plain")
    assert result["fits"] is True
    assert result["layers"] == 2


# --- who may what ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Repair", "Reload", "Lease"])
def test_others_may_look_and_no_more(daemon_of_all: Daemon, method: str) -> None:
    """The socket is everybody's (0666): the process at the other end is asked for its user."""
    path, name = daemon_of_all.socket, f"{CONTROL}.{method}"
    parameters = {"paths": ["/a"]} if method == "Lease" else {}
    assert os.stat(path).st_mode & 0o777 == 0o666

    reply = as_user(NOBODY, lambda: ask(path, name, **parameters))
    assert reply["error"] == "org.varlink.service.PermissionDenied"
    status = as_user(NOBODY, lambda: ask(path, f"{CONTROL}.Status"))
    assert [link["name"] for link in status["parameters"]["links"]] == ["one"]

    def first() -> Any:
        with monitor(path) as replies:
            return next(replies)["links"]

    assert [link["name"] for link in as_user(NOBODY, first)] == ["one"]


# --- bad clients -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"no JSON\0",
        b"[]\0",
        b"\0",
        b"{}\0",
        b'{"method": 1}\0',
        b'{"method": "x"}\0',
        b'{"method": "org.ovl-linkd.Control.Status", "parameters": []}\0',
        b'{"method": "org.ovl-linkd.Control.Status", "more": "perhaps"}\0',
        b"\xff\xfe\0",
    ],
    ids=range(9),
)
def test_what_is_no_call_costs_its_own_connection_at_most(
    daemon_of_all: Daemon, data: bytes
) -> None:
    with connected(daemon_of_all.socket) as connection:
        try:
            connection.sendall(data)
            send(connection, {"method": f"{CONTROL}.Status"})
            for _ in replies_of(connection):
                break
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may hang up before it has heard everything
    still_serves(daemon_of_all)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000 + b"\0",
        b'{"method": "org.ovl-linkd.Control.Status", "parameters": {"names": '
        + b"[" * 50_000
        + b"]" * 50_000
        + b"}}\0",
        b"9" * 10_000 + b"\0",
        b"\xff\0",
    ],
    ids=["open", "closed", "digits", "bytes"],
)
def test_json_that_python_can_t_decode_is_a_client_s_fault_like_any_other(
    configured: Daemon, data: bytes
) -> None:
    """Its decoder gives up with RecursionError, a ValueError for 4,301 digits, UnicodeDecodeError.

    Anybody may write to the socket: it must neither fill the log with tracebacks nor leave the
    connection hanging. (The log is checked when the daemon stops.)
    """
    configured.start()
    with connected(configured.socket) as connection:
        connection.sendall(data)
        try:
            send(connection, {"method": f"{CONTROL}.Status"})
            for _ in replies_of(connection):
                break
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have hung up by then


def test_half_a_message_is_waited_for_without_harm(daemon_of_all: Daemon) -> None:
    with connected(daemon_of_all.socket) as connection:
        connection.sendall(b'{"method": "org.ovl-linkd.Contr')
        still_serves(daemon_of_all)


def test_a_message_without_an_end_ends_the_connection(daemon_of_all: Daemon) -> None:
    """64 MB and never a NUL: read on, it would be kept."""
    before = resident(daemon_of_all)
    with (
        connected(daemon_of_all.socket) as connection,
        pytest.raises((BrokenPipeError, ConnectionResetError)),
    ):
        connection.sendall(b"x" * 64 * 1_048_576)
    still_serves(daemon_of_all)
    assert resident(daemon_of_all) - before < 8 * 1_048_576


def test_who_calls_without_reading_waits(daemon_of_all: Daemon) -> None:
    """A pipeline of calls whose answers nobody takes must fill the client's memory, not ours."""
    before = resident(daemon_of_all)
    call = (
        b'{"method":"org.varlink.service.GetInterfaceDescription",'
        b'"parameters":{"interface":"org.ovl-linkd.Control"}}\0'
    )
    batch = call * 200
    with connected(daemon_of_all.socket) as connection:
        connection.settimeout(0.5)  # nothing is taken for so long: the buffers are full
        with pytest.raises(TimeoutError):
            connection.sendall(batch * 3000)
        still_serves(daemon_of_all)
        assert resident(daemon_of_all) - before < 8 * 1_048_576
    still_serves(daemon_of_all)


def test_what_a_client_takes_is_sent_at_once_and_the_rest_in_its_order() -> None:
    """Not when the loop has come round twice, with all that others may have it do meanwhile."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        protocol = VarlinkInterfaceServerProtocol(VarlinkInterfaceRegistry())
        transport = PromptTransport(Plain(ours.detach()), protocol)
        answers = [b"small", b"large" * 200_000, b"another"]
        sent = [transport.send_message(each) for each in answers]
        assert [each.done() for each in sent] == [True, False, False]
        assert theirs.recv(5) == b"small"
        rest = bytearray()
        while not rest.endswith(answers[2]):
            rest += await asyncio.get_running_loop().sock_recv(theirs, 65_536)
        assert rest == b"".join(answers[1:])
        await asyncio.gather(*sent)
        assert transport.send_message(b"small").done(), "everything else has been taken"
        theirs.close()
        with pytest.raises(BrokenPipeError):
            await transport.send_message(b"in vain")
        transport.close()
        await transport.closed_future

    asyncio.run(main())


def test_nothing_follows_half_of_a_message() -> None:
    """The kernel had no memory for the rest of it, and has some again for the next."""

    memory = iter([True, False])

    class Scarce(Plain):
        def sendmsg(self, buffers: Any, *_: object) -> int:
            if not next(memory, True):
                raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
            (data,) = buffers
            return super().sendmsg([data[:4]])

    async def main() -> None:
        ours, theirs = socket.socketpair()
        protocol = VarlinkInterfaceServerProtocol(VarlinkInterfaceRegistry())
        transport = PromptTransport(Scarce(ours.detach()), protocol)
        failed = transport.send_message(b"half a message")
        while not failed.done():
            await asyncio.sleep(0)
        with pytest.raises(BrokenPipeError):
            await transport.send_message(b"next")
        assert isinstance(failed.exception(), OSError)
        transport.close()
        await transport.closed_future
        with theirs, theirs.makefile("rb") as stream:
            assert stream.read() == b"half"

    asyncio.run(main())


def test_who_can_t_be_listened_to_hears_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not of nothing, for as long as it likes to wait."""
    met: list[object] = []

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    async def main() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: met.append(context["exception"]))
        protocol = VarlinkInterfaceServerProtocol(VarlinkInterfaceRegistry())
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(loop, "add_reader", refuse)
            await PromptTransport(Plain(ours.detach()), protocol).closed_future
        assert theirs.recv(1) == b""
        theirs.close()

    asyncio.run(main())
    assert [type(each) for each in met] == [OSError]


def test_a_stranger_s_call_that_takes_long_to_understand_is_not_answered(
    daemon_of_all: Daemon,
) -> None:
    """For a third of a second no link was put right while so many options were told apart."""

    def rewrite() -> bool:
        return bool(daemon_of_all.call("Rewrite", options="," * 100_000)["result"]["fits"])

    assert not rewrite()
    with pytest.raises(client.NoAnswer):
        as_user(NOBODY, rewrite)


@pytest.fixture
def kept() -> Iterator[Kept]:
    """What a daemon would keep to its end."""
    yield Plain.kept
    while Plain.kept:
        os.close(Plain.kept.pop())


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("before", [b"", b"half a call", b"x" * 50_000], ids=len)
@pytest.mark.parametrize("flags", [0, socket.MSG_OOB], ids=["in band", "out of band"])
@pytest.mark.parametrize("read", [True, False], ids=["read", "not read"])
def test_no_descriptor_of_a_client_s_is_ever_let_go(before: bytes, flags: int, read: bool) -> None:
    """The last to do so would wait for the daemon of a user's FUSE file system, unkillably."""
    ours, theirs = socket.socketpair()
    end, passed = os.pipe()
    with open(end, "rb", buffering=0) as pipe, theirs:
        theirs.sendall(before)
        socket.send_fds(theirs, [b"x"], [passed] * 3, flags)
        os.close(passed)
        os.set_blocking(end, False)
        with Plain(ours.detach()) as plain:
            came = 0
            with suppress(DescriptorCame):
                while read:
                    came += len(plain.recvmsg(1024)[0])
        assert came <= len(before)
        assert pipe.read() is None, "nobody has it any more"
        with pytest.raises(BrokenPipeError):
            theirs.sendall(b"more")


@pytest.mark.parametrize("on_death", [signal.SIG_DFL, signal.SIG_IGN], ids=["told", "not told"])
def test_a_child_lets_them_go(kept: Kept, on_death: signal.Handlers) -> None:
    before = signal.signal(signal.SIGCHLD, on_death)
    end, passed = os.pipe()
    ours, theirs = socket.socketpair()
    try:
        with theirs, open(end, "rb") as pipe:
            socket.send_fds(theirs, [b"x"], [passed])
            os.close(passed)
            Plain(ours.detach()).close()
            assert len(kept) == 1
            kept.let_go()
            assert not kept
            assert pipe.read() == b""
        wait_until(lambda: kept.waiting() == 0, "it ends")
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_child_holds_nothing_else_of_ours() -> None:
    """A lock, say, which would be taken for as long as it waits."""
    reader, writer = os.pipe()
    held = os.open(os.devnull, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        wait_and_end(reader, [held])
    path = Path(f"/proc/{child}/fd")
    wait_until(lambda: {each.name for each in path.iterdir()} == {str(reader), str(held)}, "so")
    for each in (reader, writer, held):
        os.close(each)
    assert os.waitpid(child, 0)[1] == 0


def test_no_more_children_wait_than_there_may_be(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ovl_linkd.service.kept.MOST_CHILDREN", 0)
    kept.append(os.open(os.devnull, os.O_RDONLY))
    kept.let_go()
    assert len(kept) == 1


def test_a_connection_without_a_descriptor_is_closed() -> None:
    for unread in (b"", b"x" * 50_000):
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(unread)
            number = ours.detach()
            Plain(number).close()
            assert not os.path.exists(f"/proc/self/fd/{number}")


def test_a_connection_that_has_ended_is_closed() -> None:
    """No look can find more in it, and none is taken."""
    ours, theirs = socket.socketpair()
    number = ours.detach()
    plain = Plain(number)
    theirs.close()
    assert plain.recvmsg(1024)[0] == b""
    plain.close()
    assert not os.path.exists(f"/proc/self/fd/{number}")


def test_who_has_said_all_hears_of_the_end_though_a_child_has_the_connection_too() -> None:
    """One that reads the configuration, which may wait for a file system that doesn't answer."""
    ours, theirs = socket.socketpair()
    child_s = os.dup(ours.fileno())
    with theirs, open(child_s, "rb"):
        theirs.shutdown(socket.SHUT_WR)
        with Plain(ours.detach()) as plain:
            assert plain.recvmsg(1024)[0] == b""
        assert theirs.recv(1, socket.MSG_DONTWAIT) == b""


def test_to_be_named_a_connection_asks_the_kernel_nothing(tmp_path: Path) -> None:
    """Asyncio makes that text ten times a call, for nobody."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with connected(str(tmp_path / "s")), Plain(listener.accept()[0].detach()) as plain:
            assert plain.getsockname() == str(tmp_path / "s")
            assert str(tmp_path) not in repr(plain)
            assert str(plain.fileno()) in repr(plain)


@pytest.mark.usefixtures("kept")
def test_what_came_with_one_who_waits_is_not_let_go_either(tmp_path: Path) -> None:
    """The socket is bound anew while the system runs, where something removed it."""
    end, passed = os.pipe()
    with open(end, "rb", buffering=0) as pipe, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.setblocking(False)
        with connected(str(tmp_path / "s")) as connection:
            socket.send_fds(connection, [b"x"], [passed])
            os.close(passed)
            os.set_blocking(end, False)
            stop_listening(listener)
            assert pipe.read() is None, "nobody has it any more"
        with pytest.raises(ConnectionRefusedError), connected(str(tmp_path / "s")):
            pass


def send_along(connection: socket.socket, data: bytes, descriptors: list[int]) -> bool:
    """Send DATA with DESCRIPTORS (SCM_RIGHTS, unix(7)); whether that could be done."""
    try:
        socket.send_fds(connection, [data], descriptors)
    except (PermissionError, BrokenPipeError):  # the kernel lets nobody; nobody listens any more
        return False
    return True


def lingering() -> socket.socket:
    """A connection that keeps whoever lets it go for a minute: its other end takes nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        held_open.append(server.accept()[0])
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
    ours.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            ours.send(bytes(65_536))
    return ours


held_open: list[socket.socket] = []


@pytest.mark.parametrize("how", ["read", "not read"])
def test_a_socket_that_lingers_holds_nobody_up(daemon_of_all: Daemon, how: str) -> None:
    """Sent along with a call, or with what nobody reads any more. From Linux 6.16 on it can't be.

    A link was put right a minute later.
    """
    with connected(daemon_of_all.socket) as connection, lingering() as sent:
        if how == "not read":
            connection.sendall(b"no call\0")  # which ends the connection
        if not send_along(connection, b"x", [sent.fileno()]):
            sent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        sent.close()
        began = time.monotonic()
        still_serves(daemon_of_all)
        assert time.monotonic() - began < PATIENCE, "put right when the socket had lingered"
    held_open.pop().close()


@pytest.mark.usefixtures("kept")
def test_what_lingers_is_waited_for_by_nobody() -> None:
    """The same where the kernel lets descriptors through."""
    began = time.monotonic()
    for read in (True, False):
        ours, theirs = socket.socketpair()
        with theirs, Plain(ours.detach()) as plain:
            with lingering() as sent:
                socket.send_fds(theirs, [b"call"], [sent.fileno()])
            if read:
                with pytest.raises(DescriptorCame):
                    plain.recvmsg(1024)
    assert time.monotonic() - began < PATIENCE
    while held_open:
        held_open.pop().close()


def test_calls_of_who_has_gone_are_not_answered(daemon_of_all: Daemon) -> None:
    """Two hundred of them kept their connection for half a minute."""
    before = descriptors(daemon_of_all)

    def ask_and_leave() -> None:
        for _ in range(10):
            with connected(daemon_of_all.socket) as connection:
                connection.sendall(b'{"method":"org.ovl-linkd.Control.Status"}\0' * 300)

    as_user(NOBODY, ask_and_leave)
    wait_until(lambda: descriptors(daemon_of_all) <= before, "all of its connections are closed")


def test_who_is_sent_away_keeps_no_connection_by_not_reading(configured: Daemon) -> None:
    """It was counted no more. And twenty who read on at once had the daemon give up."""
    where, target = configured.directory, configured.directory / "t"
    configured.write({f"l{number}": (where / f"l{number}", target) for number in range(1500)})
    configured.start()
    before = descriptors(configured)
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(configured.socket)) for _ in range(3)]
        for client_ in clients:
            send(client_, {"method": f"{CONTROL}.Monitor", "more": True})
            assert client_.recv(1), "as much of the answer as there is room for"
            client_.sendall(b"no call\0")
        wait_until(lambda: descriptors(configured) <= before, "no connection is left")
        for client_ in clients:
            while client_.recv(1_000_000):
                pass


def test_one_user_s_idle_connections_keep_nobody_else_out(daemon_of_all: Daemon) -> None:
    path, before = daemon_of_all.socket, descriptors(daemon_of_all)

    def connections() -> list[socket.socket]:
        held = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(301)]
        for each in held:
            each.connect(path)
        # One too many: when it is closed, all that came before it have been accepted.
        held[-1].settimeout(PATIENCE)
        assert held[-1].recv(1) == b""
        return held

    with held_by_a_stranger(connections):
        assert descriptors(daemon_of_all) - before <= 40
        still_serves(daemon_of_all)
    wait_until(lambda: descriptors(daemon_of_all) <= before, "all of its connections are closed")


def test_followers_that_die_are_forgotten(daemon_of_all: Daemon) -> None:
    """`ovl-linkd status --watch` ends by Ctrl-C. Nothing changes for hours after it."""
    before = descriptors(daemon_of_all)
    for _ in range(300):
        with monitor(daemon_of_all.socket) as replies:
            next(replies)
    still_serves(daemon_of_all)
    wait_until(lambda: descriptors(daemon_of_all) <= before, "no connection is left")


def test_a_follower_that_stops_reading_costs_no_memory(daemon_of_all: Daemon) -> None:
    before = resident(daemon_of_all)
    with monitor(daemon_of_all.socket):
        for _ in range(300):
            still_serves(daemon_of_all)
    assert resident(daemon_of_all) - before < 8 * 1_048_576


@pytest.mark.parametrize(
    "data",
    [
        b'{"method":"org.ovl-linkd.Control.Status"}\0',
        b'{"half',
        b"no JSON\0",
        b"\xff\0",
        b"9" * 5000 + b"\0",
    ],
    ids=["call", "half", "text", "bytes", "digits"],
)
def test_descriptors_that_are_passed_use_none_of_ours_up(configured: Daemon, data: bytes) -> None:
    """Five messages of anybody's would otherwise take every one that the daemon may have."""
    configured.start()
    before = descriptors(configured)
    with ExitStack() as stack:
        sent = 0
        for _ in range(5):
            connection = stack.enter_context(connected(configured.socket))
            sent += send_along(connection, data, [0] * 200)
        still_serves(configured)
        assert descriptors(configured) - before < 20, "one a connection"
    wait_until(lambda: descriptors(configured) <= before + sent, "no other connection is left")


def test_symlinks_that_are_not_utf_8_can_be_told(daemon_of_all: Daemon) -> None:
    path = daemon_of_all.directory / "one"
    with daemon_of_all.repairing("one", "wrong"), daemon_of_all.frozen():
        path.unlink()
        os.symlink(b"/\xff\xfe\n\x1b[31m", os.fsencode(path))


# --- the socket itself -----------------------------------------------------------------------


def test_a_stale_socket_is_replaced(configured: Daemon) -> None:
    """What kill -9 leaves behind."""
    configured.start()
    configured.kill()
    assert Path(configured.socket).is_socket()
    configured.start()
    assert configured.link("one")["state"] == "ok"


def test_a_stale_socket_is_replaced_even_if_nobody_remembers_making_it(configured: Daemon) -> None:
    """A cleaner of plain files took what lay beside it."""
    configured.start()
    configured.kill()
    os.unlink(f"{configured.socket}.lock")
    configured.start()
    assert configured.link("one")["state"] == "ok"


def test_two_daemons_don_t_fight_over_one_socket(configured: Daemon) -> None:
    configured.start()
    second = command("run", "--config", configured.config)
    assert second.returncode == 1
    assert f"pid {configured.pid}" in second.stderr
    assert "hint: " in second.stderr
    assert "Traceback" not in second.stderr
    assert configured.link("one")["state"] == "ok"


def test_a_file_in_the_place_of_the_socket_is_left_alone(configured: Daemon) -> None:
    """And the links are kept all the same: a daemon that can't be asked is still a daemon."""
    Path(configured.socket).write_text("precious")
    configured.start()
    assert "not a socket, and left alone" in configured.log()
    assert Path(configured.socket).read_text() == "precious"
    assert os.readlink(configured.directory / "one") == str(configured.directory / "t")
    os.unlink(configured.socket)
    wait_until(lambda: os.path.exists(configured.socket), "the socket, now that there is room")


def test_running_out_of_descriptors_is_no_busy_loop(configured: Daemon) -> None:
    """accept(2) fails with EMFILE, and the connection that waits keeps the socket readable."""
    configured.start()
    limit = descriptors(configured) + 2
    resource.prlimit(configured.pid, resource.RLIMIT_NOFILE, (limit, limit))
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connected(configured.socket))
        assert configured.wake_ups(0.5) < 20
        configured.until_asleep()
    wait_until(lambda: descriptors(configured) < limit, "the connections are closed")
    still_serves(configured)


def test_a_stranger_s_lock_on_the_directory_doesn_t_keep_the_daemon_from_starting(
    configured: Daemon,
) -> None:
    """Whoever may open a directory may flock(2) it: everybody, where it has mode 0755."""

    def lock() -> None:
        fcntl.flock(os.open(configured.directory, os.O_RDONLY), fcntl.LOCK_EX)

    with held_by_a_stranger(lock):
        configured.start()
        assert configured.link("one")["state"] == "ok"


def test_a_socket_that_a_cleaner_removed_is_made_again(configured: Daemon) -> None:
    """Like the links, by the event: the next resync is a minute away."""
    configured.start()
    os.unlink(configured.socket)
    wait_until(lambda: os.path.exists(configured.socket), "the socket")
    assert configured.link("one")["state"] == "ok"


# --- reload ----------------------------------------------------------------------------------


def test_a_faulty_configuration_changes_nothing_and_says_so(configured: Daemon) -> None:
    configured.start()
    configured.write_raw("links: {one: {path: relative, target: /t}}\nnonsense: 1\n")
    with pytest.raises(client.CallError) as caught:
        configured.call("Reload")
    assert caught.value.name == "ConfigInvalid"
    problems = caught.value.parameters["problems"]
    assert [(problem["line"], problem["column"] > 0) for problem in problems] == [
        (1, True), (2, True),
    ]  # fmt: skip
    assert "everything stays as it was" in configured.log()
    with configured.repairing("one", "missing"):
        os.unlink(configured.directory / "one")
    assert configured.call("Status")["daemon"]["config_changed_on_disk"] is True


def test_sighup_loads_anew_and_what_was_taken_out_stays(configured: Daemon) -> None:
    configured.start()
    top = configured.directory
    configured.write({"two": (top / "two", top / "t")})
    assert configured.call("Status")["daemon"]["config_changed_on_disk"] is True
    os.kill(configured.pid, signal.SIGHUP)
    wait_until(lambda: os.path.lexists(top / "two"), "the new link")
    assert os.readlink(top / "one") == str(top / "t")
    assert [link["name"] for link in configured.call("Status")["links"]] == ["two"]
    assert configured.log().count(f"{top}/one is kept no more; what is there stays") == 1
    os.unlink(top / "one")
    with configured.repairing("two", "missing"):
        os.unlink(top / "two")
    assert not os.path.lexists(top / "one")


def test_sighup_with_a_faulty_configuration_is_said_in_the_log(configured: Daemon) -> None:
    configured.start()
    configured.write_raw("links: [\n")
    os.kill(configured.pid, signal.SIGHUP)
    wait_until(lambda: "configuration not loaded" in configured.log(), "the word in the log")
    assert str(configured.config) in configured.log()
    assert configured.link("one")["state"] == "ok"


def test_a_new_target_replaces_our_own_link_without_a_question(configured: Daemon) -> None:
    configured.start()
    top = configured.directory
    (top / "t2").mkdir()
    configured.write({"one": (top / "one", top / "t2")})
    configured.call("Reload")
    assert os.readlink(top / "one") == str(top / "t2")
