"""Leasing as the caller sees it, from daemons that answer as no daemon of this version would."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

import pytest

from ovl_linkd import leasing
from ovl_linkd.published import Published

Json = dict[str, Any]


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[Callable[[Json], Json]], Published]]:
    """Have what the function makes of each request answered."""
    path = str(tmp_path / "s")
    threads: list[threading.Thread] = []
    listener = socket(AF_UNIX, SOCK_STREAM)
    listener.bind(path)
    listener.listen()

    def start(answer: Callable[[Json], Json]) -> Published:
        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    data = b""
                    while not data.endswith(b"\0"):
                        more = connection.recv(65_536)
                        if not more:
                            return  # the end of the test
                        data += more
                    connection.sendall(json.dumps(answer(json.loads(data[:-1]))).encode() + b"\0")

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return Published((), path, [], "/run/f")

    yield start
    with socket(AF_UNIX, SOCK_STREAM) as last:
        last.connect(path)
    for thread in threads:
        thread.join(5)
    listener.close()


def test_any_number_of_paths_in_requests_that_the_daemon_takes(
    answering: Callable[[Callable[[Json], Json]], Published],
) -> None:
    sizes: list[int] = []

    def answer(request: Json) -> Json:
        paths = request["parameters"]["paths"]
        sizes.append(len(json.dumps(request)))
        assert len(paths) <= 500
        return {"parameters": {"paths": [f"/run/f/{path[-4:]}" for path in paths]}}

    known = answering(answer)
    # Bytes that are no UTF-8 take six characters each in JSON.
    wanted = [b"/" + b"\xff" * 4_000 + b"%04d" % number for number in range(60)]
    wanted += [b"/short/%04d" % number for number in range(1_000, 3_000)]
    prefixes = leasing.lease([*wanted, *wanted[:5]], known)
    assert [prefix.target for prefix in prefixes] == wanted
    assert [prefix.short[-4:] for prefix in prefixes] == [path[-4:] for path in wanted]
    assert max(sizes) < 256 * 1024
    assert leasing.lease([], known) == []


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        ({"parameters": {"paths": []}}, "not what this version understands"),
        ({"parameters": {"paths": ["relative"]}}, "not what this version understands"),
        ({"parameters": {"paths": [1]}}, "not what this version understands"),
        ({"parameters": {"paths": "/run/f/1"}}, "not what this version understands"),
        ({"parameters": {}}, "not what this version understands"),
        ({"error": "org.ovl-linkd.Control.Later", "parameters": {}}, "refused: Later"),
        ({"error": "org.ovl-linkd.Control.NoFarm", "parameters": {}}, "keeps no farm"),
        ({"error": "org.ovl-linkd.Control.FarmFull", "parameters": {}}, "the farm is full"),
        (
            {
                "error": "org.ovl-linkd.Control.FarmUnusable",
                "parameters": {"state": "blocked", "reason": "a symlink is there", "remedy": "x"},
            },
            "no farm: a symlink is there",
        ),
        (
            {"error": "org.varlink.service.PermissionDenied", "parameters": {}},
            "only root and the daemon's user may lease",
        ),
    ],
)
def test_every_other_answer_is_a_sentence_for_a_person(
    reply: Json, what: str, answering: Callable[[Callable[[Json], Json]], Published]
) -> None:
    with pytest.raises(leasing.NoLease, match=what) as caught:
        leasing.lease([b"/a"], answering(lambda _: reply))
    assert caught.value.hint


def test_the_path_that_is_no_layer_comes_back_as_it_was(
    answering: Callable[[Callable[[Json], Json]], Published],
) -> None:
    path = b"/\xff\n"
    parameters = {"path": os.fsdecode(path), "what": "not a directory"}
    reply = {"error": "org.ovl-linkd.Control.NotALayer", "parameters": parameters}
    with pytest.raises(leasing.NotALayer) as caught:
        leasing.lease([path], answering(lambda _: reply))
    assert caught.value.path == path
