"""The control socket's Varlink interface; its types are its documentation.

The only module that imports a Varlink library. `varlinkctl introspect` prints what stands here.
"""

import asyncio
import logging
import socket
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

from asyncvarlink import (
    FileDescriptorArray,
    LastResult,
    TypedVarlinkErrorReply,
    VarlinkInterface,
    VarlinkInterfaceRegistry,
    VarlinkInterfaceServerProtocol,
    VarlinkMethodCall,
    VarlinkMethodReply,
    VarlinkTransport,
    varlinkmethod,
)
from asyncvarlink.serviceinterface import PermissionDenied, VarlinkServiceInterface

from ovl_linkd import __version__
from ovl_linkd.links import history, terms
from ovl_linkd.service import wire
from ovl_linkd.service.calls import Calls, Transport
from ovl_linkd.service.peer import Peer
from ovl_linkd.service.socket import Connection
from ovl_linkd.service.turns import Turns
from ovl_linkd.service.wire import Link, Problem, Refused, Rewritten, Service, State, link

INTERFACE = "org.ovl-linkd.Control"

# asyncvarlink 0.3 forgets to await the end of a generator whose client has gone.
warnings.filterwarnings("ignore", "coroutine method 'aclose'", RuntimeWarning)
# It logs what clients do wrong; that is their own affair, and no way to fill our log.
logging.getLogger("asyncvarlink").setLevel(logging.CRITICAL)


class NoSuchLink(TypedVarlinkErrorReply, interface=INTERFACE):
    """A link of this name is not configured."""

    class Parameters:
        name: str


class ConfigInvalid(TypedVarlinkErrorReply, interface=INTERFACE):
    """The configuration on disk is faulty; the daemon goes on with the one it has."""

    class Parameters:
        problems: list[Problem]


class Malformed(TypedVarlinkErrorReply, interface=INTERFACE):
    """The options are none that the kernel would understand."""

    class Parameters:
        what: str
        hint: str


class NoFarm(TypedVarlinkErrorReply, interface=INTERFACE):
    """No farm is configured, so there is nothing to lease from."""

    class Parameters:
        hint: str


class FarmFull(TypedVarlinkErrorReply, interface=INTERFACE):
    """The farm has as many entries as it may have; those that nobody asks for go in time."""

    class Parameters:
        entries: int
        most: int


class FarmUnusable(TypedVarlinkErrorReply, interface=INTERFACE):
    """A farm is configured, but something is in its way."""

    class Parameters:
        state: str
        reason: str
        remedy: str


class NotALayer(TypedVarlinkErrorReply, interface=INTERFACE):
    """PATH can't be leased: it has to be an existing directory."""

    class Parameters:
        path: str
        what: str


class Control(VarlinkInterface, name=INTERFACE):
    """Look at the kept links and have them put right.

    Everybody may look. What changes something is for root and the daemon's own user.
    """

    errors = (NoSuchLink, ConfigInvalid, Malformed, NoFarm, FarmFull, FarmUnusable, NotALayer)

    def __init__(self, service: Service, peer: Peer) -> None:
        self._service = service
        self._peer = peer

    @varlinkmethod
    def Status(self, *, names: list[str] | None = None) -> State:
        """The links NAMES, or all of them, as last seen."""
        return self._state(self._find(names))

    @varlinkmethod(return_parameter="links", delay_generator=False)
    async def Monitor(self) -> AsyncIterator[list[Link]]:
        """All links first, then those that changed, each time some did."""
        changes = self._service.followers.join()
        try:
            yield self._links(self._service.statuses([]))
            while changed := await changes.next():
                self._service.catch_up()  # a change is news for all who follow, one by one
                yield self._links(self._service.statuses(changed))
            raise LastResult([])  # the daemon stops
        finally:
            self._service.followers.leave(changes)

    @varlinkmethod(return_parameter="result")
    def Rewrite(self, *, options: str, when: str | None = None) -> Rewritten:
        """Shorten overlay mount options; WHEN is "always" (the default) or "needed"."""
        try:
            return self._service.rewrite(options, when or "always")
        except ValueError as error:
            raise Malformed(what=str(error), hint=getattr(error, "hint", "")) from None

    @varlinkmethod(return_parameter="paths")
    def Lease(self, *, paths: list[str]) -> list[str]:
        """A short path for each of the directories PATHS, all of them or none.

        It leads there for as long as the farm keeps what nobody asks for, and never elsewhere
        before the next boot. Options may hold it; what outlives a boot may not.
        """
        self._require_trust()
        try:
            leased = self._service.farming.lease(paths)
        except terms.Full as error:
            raise FarmFull(entries=error.entries, most=error.most) from None
        except terms.NotALayer as error:
            raise NotALayer(path=error.path, what=error.what) from None
        except terms.Unusable as error:
            raise FarmUnusable(**error.trouble._asdict()) from None
        if leased is None:
            raise NoFarm(hint="give the configuration a farm, and reload it")
        return leased

    @varlinkmethod(return_parameter="links")
    def Repair(self, *, names: list[str] | None = None, adopt: bool | None = None) -> list[Link]:
        """Put links right now, without waiting for the end of a pause; how they are then.

        ADOPT also takes a foreign symlink for ours that was there before the daemon.
        """
        self._require_trust()
        self._find(names)
        return self._links(self._service.repair(names or [], bool(adopt)))

    @varlinkmethod
    async def Reload(self) -> State:
        """Read the configuration anew. If it is faulty, everything stays as it was."""
        self._require_trust()
        try:
            await self._service.reload()
        except Refused as error:
            raise ConfigInvalid(problems=cast("Any", error.problems)) from None
        return self._state(self._service.statuses([]))

    def _state(self, statuses: list[history.Status]) -> State:
        daemon, whole = self._service.daemon(), wire.farm(self._service.farming)
        return {"daemon": daemon, "links": self._links(statuses), "farm": whole}

    def _require_trust(self) -> None:
        if not self._peer.trusted:
            raise PermissionDenied

    def _find(self, names: list[str] | None) -> list[history.Status]:
        wanted = set(names or ())
        found = self._service.statuses(wanted)
        if unknown := wanted - {status.link.name for status in found}:
            raise NoSuchLink(name=min(unknown))
        return found

    def _links(self, statuses: list[history.Status]) -> list[Link]:
        return [link(status) for status in statuses]


class _Protocol(VarlinkInterfaceServerProtocol):
    """One client. It gets its next answer when it has taken the one before."""

    def __init__(self, registry: VarlinkInterfaceRegistry, turns: Turns, peer: Peer) -> None:
        super().__init__(registry)
        self._turns = turns
        self._peer = peer
        self._bytes: asyncio.BaseTransport | None = None  # the library forgets its own
        self._calls: Calls | None = None
        self._sent: asyncio.Future[None] | None = None
        self._following: asyncio.Future[None] | None = None  # a Monitor that is under way

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._bytes = transport
        answer = partial(self.request_received, fds=None)
        self._calls = Calls(self._turns, self._peer, cast("Transport", transport), answer)

    def message_received(self, data: bytes, fds: FileDescriptorArray | None) -> None:
        """Not the library's: it decodes at once whatever has come, and goes on where it can't."""
        del fds  # there are none: see Plain
        assert self._calls
        self._calls.said(data)

    def send_reply(
        self, reply: VarlinkMethodReply, fds: list[int] | None = None, autoclose: bool = True
    ) -> asyncio.Future[None]:
        self._sent = super().send_reply(reply, fds, autoclose)
        self._sent.add_done_callback(self._hung_up)
        return self._sent

    def _hung_up(self, sent: "asyncio.Future[None]") -> None:
        """Whoever can't be answered any more has nothing to ask: the rest of it is not read."""
        if sent.exception():
            self.close()

    def call_received(
        self, call: VarlinkMethodCall, fds: FileDescriptorArray | None
    ) -> asyncio.Future[None] | None:
        done = super().call_received(call, fds)
        if done and call.more and self._following is None:
            # Nothing may happen for hours. Go on reading meanwhile: that tells when the client
            # hangs up. A second one has to wait for the first, like any call.
            self._following = done
            done.add_done_callback(self._followed)
            return None
        return done or self._taken()

    def _followed(self, done: asyncio.Future[None]) -> None:
        self._following = None
        if not done.cancelled() and (error := done.exception()):
            self.handle_call_exception(error, oneway=False)

    def connection_lost(self, exc: Exception | None) -> None:
        # Or the library keeps it open, and counted by nobody, until the client has taken what waits
        # for it, and trips over the future of that, which is cancelled here.
        cast("VarlinkTransport", self._bytes).abort()
        if self._following:
            self._following.cancel()
        super().connection_lost(exc)

    def _taken(self) -> asyncio.Future[None] | None:
        """Done when the last answer has left, or can't any more."""
        if self._sent is None or self._sent.done():
            return None
        taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def left(_: asyncio.Future[None]) -> None:
            if not taken.done():
                taken.set_result(None)

        self._sent.add_done_callback(left)
        return taken

    def handle_call_exception(self, exc: BaseException, oneway: bool) -> None:
        logging.getLogger("ovl-linkd").error("a call failed, ignoring: %r", exc, exc_info=exc)
        super().handle_call_exception(exc, oneway)


class PromptTransport(VarlinkTransport):
    """Brings what one client says, and takes to it what is said, at once if it can."""

    def __init__(self, connection: socket.socket, protocol: VarlinkInterfaceServerProtocol) -> None:
        """Serve CONNECTION in the running event loop."""
        loop = asyncio.get_running_loop()
        # One read per turn of the loop, so that who writes without end can't hold up a repair.
        super().__init__(loop, connection, connection, protocol, boundary_predictor=None)
        self._connection = connection
        self._left: asyncio.Future[None] | None = None  # done when everything has been taken

    def _resume_reading(self) -> None:
        """As the library's; but whom the kernel has no memory left to wait for hears of the end."""
        try:
            super()._resume_reading()
        except OSError:
            self.close()
            raise

    def send_message(self, data: bytes, fds: list[int] | None = None) -> "asyncio.Future[None]":
        """As the library's, which would have the loop wait until it may; that is left to it where
        not all is taken at once, and so are errors: after one, half of a message may have left."""
        left = self._left
        all_taken = left is None or (left.done() and not left.cancelled() and not left.exception())
        if all_taken and not (fds or self.is_closing()):
            with suppress(OSError):
                data = data[self._connection.sendmsg([data]) :]
        if data:
            self._left = super().send_message(data, fds)
        else:
            self._left = asyncio.get_running_loop().create_future()
            self._left.set_result(None)
        return self._left


def is_a_client_s(context: Mapping[str, object]) -> bool:
    """Whether the trouble that CONTEXT tells of, as asyncio does, is one client's own.

    asyncvarlink 0.3 raises InvalidStateError where one hangs up while it is written to. It closes
    the connection first, and anybody could fill our log by it, or have us end.
    """
    error = context.get("exception")
    while isinstance(error, BaseException):
        if isinstance(error, ConnectionError):
            return True  # and connections are to clients only
        error = error.__context__
    return False


def attach(service: Service, turns: Turns, connection: socket.socket, peer: Peer) -> Connection:
    """Serve CONNECTION in the running event loop."""
    registry = VarlinkInterfaceRegistry()
    registry.register_interface(
        VarlinkServiceInterface("ovl-linkd", "ovl-linkd", __version__, "", registry)
    )
    registry.register_interface(Control(service, peer))
    transport = PromptTransport(connection, _Protocol(registry, turns, peer))
    return Connection(transport.closed_future, transport.close)
