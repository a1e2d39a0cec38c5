"""A real daemon's farm, over the real socket."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from ovl_linkd import client, leasing
from tests.daemon.farms import Farm, Json
from tests.daemon.world import Daemon, command
from tests.others import NOBODY, as_user
from tests.waiting import wait_until

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def farm(daemon: Daemon) -> Farm:
    made = Farm(daemon)
    made.configure()
    return made


def test_a_layer_gets_a_short_name_that_leads_there(farm: Farm) -> None:
    farm.daemon.start()
    layers = farm.layers(3)
    shorts = farm.lease(*layers)
    assert shorts == [f"{farm.path}/{name}" for name in "123"]
    assert [os.readlink(short) for short in shorts] == layers
    assert farm.lease(layers[2], layers[0], layers[2]) == [shorts[2], shorts[0], shorts[2]]
    status = farm.status()
    assert (status["state"], status["entries"], status["most"]) == ("ok", 3, 100_000)
    assert status["leases"] == 6


def test_whoever_asks_at_once_gets_the_same(farm: Farm) -> None:
    """Fifty mounts of one image start together: each of its layers gets one name."""
    farm.daemon.start()
    layers = farm.layers(20)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: farm.lease(*layers), range(50)))
    assert all(answer == answers[0] for answer in answers)
    assert len(set(answers[0])) == len(os.listdir(farm.path)) == 20


def test_five_hundred_of_the_longest_paths(farm: Farm) -> None:
    """2 MB of paths: more than the daemon takes as one request."""
    farm.daemon.start()
    deep = farm.store
    while len(os.fsencode(deep)) < 3_800:
        deep = deep / ("d" * 120)
    os.makedirs(deep)
    fill = "f" * (4_095 - len(os.fsencode(deep)) - 1)
    paths = []
    here = os.open(deep, os.O_RDONLY)
    try:
        for number in range(500):
            name = f"{number:03}{fill[3:255]}"
            os.mkdir(name, dir_fd=here)
            paths.append(os.fsencode(deep / name))
    finally:
        os.close(here)
    prefixes = leasing.lease(paths, farm.known)
    assert [prefix.target for prefix in prefixes] == paths
    assert all(os.readlink(prefix.short) == prefix.target for prefix in prefixes)
    assert len({prefix.short for prefix in prefixes}) == 500


def test_bytes_that_are_no_text_come_back_as_they_are(farm: Farm) -> None:
    farm.daemon.start()
    path = os.fsencode(farm.store) + b"/\xff a\n\\:,%"
    os.makedirs(path)
    (prefix,) = leasing.lease([path, path], farm.known)
    assert os.readlink(prefix.short) == path == prefix.target
    farm.daemon.stop()
    farm.daemon.start()
    assert leasing.lease([path], farm.known) == [prefix]


def test_only_root_and_the_daemons_user_lease(farm: Farm) -> None:
    farm.daemon.start()
    layer, socket = farm.layers(1)[0], farm.daemon.socket

    def ask() -> str:
        try:
            client.call(socket, "Lease", paths=[layer])
        except client.CallError as error:
            return error.name
        return "leased"

    assert as_user(NOBODY, ask) == "org.varlink.service.PermissionDenied"
    assert as_user(NOBODY, lambda: _complaint(farm, layer)) == (
        "only root and the daemon's user may lease from the farm"
    )
    assert os.listdir(farm.path) == []


def _complaint(farm: Farm, layer: str) -> str:
    try:
        leasing.lease([os.fsencode(layer)], farm.known)
    except leasing.NoLease as error:
        return error.what
    return "leased"


def test_what_is_no_layer_is_refused_and_the_others_with_it(farm: Farm) -> None:
    farm.daemon.start()
    (layer,) = farm.layers(1)
    (farm.store / "file").touch()
    (short,) = farm.lease(layer)
    for path, what in {
        "relative": "not an absolute path",
        f"{farm.store}/none": "No such file or directory",
        f"{farm.store}/file": "not a directory",
        short: "it lies in the farm itself, whose entries go",
        "/" + "x" * 4_095: "4,096 bytes, a symlink holds 4,095",
    }.items():
        assert farm.refused(f"{farm.store}/0", path) == ("NotALayer", {"path": path, "what": what})
    assert len(os.listdir(farm.path)) == 1
    with pytest.raises(leasing.NotALayer) as caught:
        leasing.lease([b"/none/\xff"], farm.known)
    assert caught.value.path == b"/none/\xff"


def test_a_full_farm_says_so_and_goes_on_serving_what_it_has(farm: Farm) -> None:
    farm.configure(max_entries=2)
    farm.daemon.start()
    one, two, three = farm.layers(3)
    shorts = farm.lease(one, two)
    assert farm.refused(one, three) == ("FarmFull", {"entries": 2, "most": 2})
    assert farm.lease(one, two) == shorts
    with pytest.raises(leasing.NoLease, match="the farm is full: 2 entries of 2"):
        leasing.lease([os.fsencode(three)], farm.known)


def test_without_a_farm(farm: Farm) -> None:
    farm.daemon.write({})
    farm.daemon.start()
    (layer,) = farm.layers(1)
    assert leasing.lease([os.fsencode(layer)], farm.known._replace(farm=None)) == []
    assert farm.refused(layer)[0] == "NoFarm"
    assert farm.daemon.call("Status")["farm"] is None


def test_nobody_to_ask(farm: Farm) -> None:
    with pytest.raises(leasing.NoLease, match="no farm: the daemon is not running"):
        leasing.lease([b"/"], farm.known)


# -- status -----------------------------------------------------------------------------------


def status_of(farm: Farm) -> tuple[int, Json, str]:
    """The exit code, and the farm as JSON, and its lines for people."""
    done = command("status", "--json", "--config", farm.daemon.config)
    text = command("status", "--config", farm.daemon.config)
    assert text.returncode == done.returncode
    lines = text.stdout.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("  farm"))
    return done.returncode, json.loads(done.stdout)["farm"], "\n".join(lines[at:-1]).strip()


def test_status_has_one_line_for_it_however_many_entries(farm: Farm) -> None:
    farm.daemon.start()
    farm.lease(*farm.layers(50))
    code, said, text = status_of(farm)
    assert code == 0
    assert said == farm.status()
    assert said.items() >= {
        "path": str(farm.path), "state": "ok", "entries": 50, "most": 100_000, "guard": "none",
        "leases": 50, "expiries": 0, "repairs": 0, "reason": None, "remedy": None,
    }.items()  # fmt: skip
    assert text.startswith(f"farm  ok  {farm.path}  50 of 100,000 entries, the oldest last asked")


def test_status_tells_what_is_in_its_way_with_and_without_a_daemon(farm: Farm) -> None:
    farm.daemon.start()
    farm.path.rmdir()
    farm.path.symlink_to("/nowhere")
    farm.until(lambda status: status["state"] == "blocked", "blocked")
    code, said, text = status_of(farm)
    assert (code, said["state"], said["entries"]) == (1, "blocked", 0)
    assert f"\n    to do: move {farm.path} away" in text
    farm.daemon.stop()
    code, said, _ = status_of(farm)
    assert (code, said["state"], said["entries"]) == (3, "blocked", None)
    assert said.keys() == farm_keys()
    farm.path.unlink()
    assert status_of(farm)[1]["state"] == "missing"


def farm_keys() -> set[str]:
    return {
        *("path", "state", "reason", "remedy", "entries", "most", "oldest", "guard", "guarded"),
        *("leases", "expiries", "repairs"),
    }


# -- whatever happens to the directory --------------------------------------------------------


def test_an_entry_that_is_removed_or_replaced_is_back_at_once(farm: Farm) -> None:
    farm.daemon.start()
    layers = farm.layers(3)
    leased = dict(zip(farm.lease(*layers), layers, strict=True))
    one, two, three = leased
    os.unlink(one)
    os.symlink("/elsewhere", f"{farm.path}/x")
    os.rename(f"{farm.path}/x", two)
    shutil.move(three, farm.store / "moved")
    farm.until_right(leased)
    assert farm.until(lambda status: status["repairs"] >= 3, "three repairs")["state"] == "ok"


def test_a_directory_that_is_removed_comes_back_with_all_that_was_in_it(farm: Farm) -> None:
    farm.daemon.start()
    layers = farm.layers(2_500)
    leased = dict(zip(farm.lease(*layers), layers, strict=True))
    with farm.daemon.frozen():
        shutil.rmtree(farm.path)
    farm.until_right(leased)
    log = [line for line in farm.daemon.log().splitlines() if "restored" in line]
    assert len(log) <= 2, "thousands of repairs are no thousands of lines"


def test_a_parent_that_is_removed_is_awaited(farm: Farm) -> None:
    """More likely a file system that is not mounted yet than one directory too few."""
    above = farm.daemon.directory / "above"
    above.mkdir()
    farm.path, farm.ledger = above / "f", above / ".f.ovl-linkd-farm"
    farm.configure()
    farm.daemon.start()
    one, two = farm.layers(2)
    (short,) = farm.lease(one)
    with farm.daemon.frozen():
        shutil.rmtree(above)
    farm.until(lambda status: status["state"] == "waiting", "waiting")
    assert farm.refused(two)[0] == "FarmUnusable"
    above.mkdir()
    farm.until_right({short: one})
    wait_until(farm.ledger.exists, "the ledger is back")
    assert farm.lease(one, two)[0] == short


def test_what_was_removed_while_no_daemon_ran_comes_back(farm: Farm) -> None:
    farm.daemon.start()
    layers = farm.layers(5)
    leased = dict(zip(farm.lease(*layers), layers, strict=True))
    farm.daemon.stop()
    shutil.rmtree(farm.path)
    farm.daemon.start()
    farm.until_right(leased)


def test_what_was_removed_comes_back_without_a_daemon(farm: Farm) -> None:
    """By hand, and nothing is leased, expires, or is taken from the next daemon by it."""
    farm.daemon.start()
    layers = farm.layers(5)
    leased = dict(zip(farm.lease(*layers), layers, strict=True))
    farm.daemon.stop()
    shutil.rmtree(farm.path)
    before = farm.ledger.read_bytes()
    done = command("repair", "--offline", "--config", farm.daemon.config)
    assert (done.returncode, done.stdout, done.stderr) == (
        0, f"farm: ok: {farm.path}: 5 of 5 entries put right\n", "",
    )  # fmt: skip
    assert all(os.readlink(short) == layer for short, layer in leased.items())
    assert farm.ledger.read_bytes() == before
    shutil.rmtree(farm.path)
    farm.path.symlink_to("/elsewhere")
    done = command("repair", "--offline", "--config", farm.daemon.config)
    assert done.returncode == 1
    assert done.stdout.startswith(f"farm: blocked: {farm.path}: a symlink is at {farm.path} (to")
    farm.path.unlink()
    farm.daemon.start()
    assert farm.lease(*layers) == list(leased)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_forgets_nothing_and_gives_no_id_again(farm: Farm, how: str) -> None:
    farm.daemon.start()
    layers = farm.layers(4)
    shorts = farm.lease(*layers[:3])
    getattr(farm.daemon, how)()
    farm.daemon.start()
    assert farm.lease(*layers[:3]) == shorts
    assert farm.lease(layers[3])[0] not in shorts


def test_a_symlink_in_the_directorys_place_is_not_written_through(farm: Farm) -> None:
    """An attacker would have the daemon fill a directory of his choice with symlinks."""
    farm.daemon.start()
    layers = farm.layers(2)
    (short,) = farm.lease(layers[0])
    elsewhere = farm.daemon.directory / "elsewhere"
    elsewhere.mkdir()
    with farm.daemon.frozen():
        shutil.rmtree(farm.path)
        farm.path.symlink_to(elsewhere)
    status = farm.until(lambda status: status["state"] == "blocked", "blocked")
    assert status["reason"] == f"a symlink is at {farm.path}"
    name, said = farm.refused(layers[1])
    assert (name, said["state"]) == ("FarmUnusable", "blocked")
    assert os.listdir(elsewhere) == []
    farm.path.unlink()
    farm.until(lambda status: status["state"] == "ok", "ok again")
    farm.until_right({short: layers[0]})
    assert farm.lease(layers[1]) != [short]


def test_a_rival_fills_no_journal(farm: Farm) -> None:
    """Who makes and removes files in the place of entries, as fast as he can."""
    farm.daemon.start()
    layers = farm.layers(20)
    leased = dict(zip(farm.lease(*layers), layers, strict=True))
    for _ in range(50):
        for short in leased:
            with suppress(FileNotFoundError):
                os.unlink(short)
            with suppress(FileExistsError):
                os.mkdir(f"{short}")
                os.rmdir(f"{short}")
    farm.until_right(leased)
    farm.until(lambda status: status["state"] == "ok", "ok")
    assert len(farm.daemon.log().splitlines()) < 30


@pytest.mark.parametrize("what", ["file", "others", "everybody"])
def test_what_is_no_directory_of_roots_alone_is_not_used(farm: Farm, what: str) -> None:
    farm.daemon.start()
    (layer,) = farm.layers(1)
    if what == "file":
        farm.path.rmdir()
        farm.path.touch()
    elif what == "others":
        os.chown(farm.path, NOBODY, NOBODY)
    else:
        farm.path.chmod(0o777)
    farm.until(lambda status: status["state"] == "blocked", "blocked")
    assert farm.refused(layer)[0] == "FarmUnusable"
    if what == "file":
        assert farm.path.read_bytes() == b""
        farm.path.unlink()
    else:
        assert os.listdir(farm.path) == []
        os.chown(farm.path, 0, 0)
        farm.path.chmod(0o755)
    farm.until(lambda status: status["state"] == "ok", "ok again")
    assert farm.lease(layer)


def test_a_second_daemon_with_the_same_farm_ends_the_first_ones_leases(
    farm: Farm, shared: Callable[[], Daemon]
) -> None:
    """Both would give the same ids, to different layers."""
    farm.daemon.start()
    one, two, three = farm.layers(3)
    (first,) = farm.lease(one)
    other = Farm(shared())
    other.daemon.write({}, farm={"path": str(farm.path)})
    other.daemon.start()
    (second,) = other.lease(two)
    name, said = farm.refused(three)
    assert (name, said["state"]) == ("FarmUnusable", "blocked")
    assert "second daemon" in said["reason"]
    assert len({first, second, *other.lease(three)}) == 3
    other.daemon.stop()
    farm.daemon.call("Reload")
    assert farm.lease(one, two) == [first, second]


def test_a_ledger_that_is_removed_is_written_again(farm: Farm) -> None:
    farm.daemon.start()
    (layer,) = farm.layers(1)
    (short,) = farm.lease(layer)
    farm.ledger.unlink()
    wait_until(farm.ledger.exists, "the ledger is back")
    farm.daemon.kill()
    farm.daemon.start()
    assert farm.lease(layer) == [short]


# -- the configuration ------------------------------------------------------------------------


def test_a_reload_brings_a_farm_moves_it_and_takes_it_away(farm: Farm) -> None:
    (layer,) = farm.layers(1)
    farm.daemon.write({})
    farm.daemon.start()
    assert farm.refused(layer)[0] == "NoFarm"
    farm.configure()
    farm.daemon.call("Reload")
    (first,) = farm.lease(layer)
    moved = farm.daemon.directory / "g"
    farm.configure(path=str(moved), max_entries=1)
    farm.daemon.call("Reload")
    assert farm.lease(layer) == [f"{moved}/1"]
    assert os.readlink(first) == layer, "options that were given out still mount"
    farm.configure()
    farm.daemon.call("Reload")
    assert farm.lease(layer) == [first]
    farm.daemon.write({})
    farm.daemon.call("Reload")
    assert farm.refused(layer)[0] == "NoFarm"
    assert os.readlink(first) == layer


def test_unused_entries_expire(farm: Farm) -> None:
    """By the real timer; for how long they are kept is tested with a clock of its own."""
    farm.configure(keep=0)
    farm.daemon.start()
    layers = farm.layers(3)
    farm.lease(*layers)
    farm.until(lambda status: status["entries"] == 0, "all expired")
    assert os.listdir(farm.path) == []
    assert farm.lease(layers[0]) == [f"{farm.path}/4"]
