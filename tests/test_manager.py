"""What the service manager hears."""

import socket
from pathlib import Path

import pytest

from ovl_linkd.service.manager import Manager


def test_a_status_that_nobody_heard_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manager that is re-executed, or has no room: it showed a state that was over for good."""
    address = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(address))
    manager = Manager()
    manager.status("1 link ok")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as heard:
        heard.bind(str(address))
        manager.status("1 link ok")
        assert heard.recv(100) == b"STATUS=1 link ok"
        manager.status("1 link ok")
        with pytest.raises(BlockingIOError):
            heard.recv(100)
        manager.status("0 links ok")
        assert heard.recv(100) == b"STATUS=0 links ok"
