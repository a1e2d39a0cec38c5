"""The metrics file of a running daemon: written when something changes, and never in the way."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics import parser

from tests.daemon.world import MS_RDONLY, MS_REMOUNT, Daemon, command, mount, umount
from tests.waiting import wait_until

parse: Callable[[str], Iterable[Metric]] = parser.text_string_to_metric_families
pytestmark = pytest.mark.needs("root")


@pytest.fixture
def small(scratch: Path) -> Iterator[Path]:
    """A file system of its own, which may be made read-only."""
    place = scratch / "m"
    place.mkdir()
    mount("small", place, "tmpfs", data="size=64k,mode=0755")
    yield place
    umount(place)


@pytest.fixture
def told(daemon: Daemon) -> Daemon:
    (daemon.directory / "t").mkdir()
    configure(daemon, str(daemon.directory / "metrics.prom"))
    return daemon


def configure(daemon: Daemon, metrics_file: str | None, **keys: Any) -> None:
    links = {"one": (daemon.directory / "one", daemon.directory / "t")}
    daemon.write(links, metrics_file=metrics_file, **keys)


def written(path: Path) -> dict[tuple[str, ...], float]:
    """(name, label values…) -> value, without the label that names the configuration."""
    return {
        (sample.name, *list(sample.labels.values())[:-1]): sample.value
        for family in parse(path.read_text())
        for sample in family.samples
    }


def when(path: Path, key: Iterable[str], value: float) -> None:
    wait_until(lambda: written(path)[tuple(key)] == value, f"{key} {value}")


def test_the_daemon_counts_repairs_and_reloads(told: Daemon) -> None:
    told.start()
    path = told.directory / "metrics.prom"
    before = written(path)
    assert before["ovl_linkd_links", "ok"] == 1
    assert before["ovl_linkd_repairs_total", "missing"] == 1
    with told.repairing("one", "missing"):
        os.unlink(told.directory / "one")
    when(path, ("ovl_linkd_repairs_total", "missing"), 2)
    assert command("reload", "--config", told.config).returncode == 0
    when(path, ("ovl_linkd_config_reloads_total", "ok"), 1)
    good = told.config.read_text()
    told.write_raw("links: 7\n")
    os.kill(told.pid, signal.SIGHUP)
    when(path, ("ovl_linkd_config_last_reload_successful",), 0)
    assert written(path)["ovl_linkd_config_reloads_total", "failed"] == 1
    told.write_raw(good)
    assert (
        written(path)[("ovl_linkd_start_time_seconds",)]
        == before[("ovl_linkd_start_time_seconds",)]
        < before[("ovl_linkd_written_timestamp_seconds",)]
        < written(path)[("ovl_linkd_written_timestamp_seconds",)]
    )


def test_a_file_that_was_moved_leaves_no_old_one_behind(told: Daemon) -> None:
    """The old one would look like a daemon that died."""
    told.start()
    old, new = (told.directory / name for name in ("metrics.prom", "other.prom"))
    assert old.exists()
    configure(told, str(new))
    assert command("reload", "--config", told.config).returncode == 0
    wait_until(new.exists, "the new file")
    assert not old.exists()
    configure(told, None)
    assert command("reload", "--config", told.config).returncode == 0
    assert not new.exists()


def test_a_resync_brings_a_removed_file_back_and_the_time_on(told: Daemon) -> None:
    path = told.directory / "metrics.prom"
    configure(told, str(path), resync_interval="1s")
    told.start()
    path.unlink()
    wait_until(path.exists, "the file")
    first = written(path)[("ovl_linkd_written_timestamp_seconds",)]
    wait_until(
        lambda: written(path)[("ovl_linkd_written_timestamp_seconds",)] > first, "a later time"
    )


def test_a_shorter_resync_interval_counts_from_the_reload_on(told: Daemon) -> None:
    """And not from the end of the interval that was: that may be a day, or a year."""
    path = told.directory / "metrics.prom"
    told.start()
    configure(told, str(path), resync_interval="1s")
    assert command("reload", "--config", told.config).returncode == 0
    when(path, ("ovl_linkd_resync_interval_seconds",), 1)
    path.unlink()
    wait_until(path.exists, "the file")


def test_a_disk_that_is_read_only_is_said_once_and_links_are_kept(
    told: Daemon, small: Path
) -> None:
    path = small / "metrics.prom"
    configure(told, str(path), resync_interval="1s")
    told.start()
    mount("small", small, "tmpfs", MS_REMOUNT | MS_RDONLY)
    trouble = "no metrics: [Errno 30] Read-only file system"
    wait_until(lambda: trouble in told.log(), "the trouble")
    for _ in range(3):
        with told.repairing("one", "missing"):
            os.unlink(told.directory / "one")
    assert told.log().count("no metrics") == 1
    mount("small", small, "tmpfs", MS_REMOUNT)
    before = told.link("one")["repairs"]
    when(path, ("ovl_linkd_repairs_total", "missing"), before)
    mount("small", small, "tmpfs", MS_REMOUNT | MS_RDONLY)
    wait_until(lambda: told.log().count("no metrics") == 2, "the trouble, once more")
    told.stop()
    mount("small", small, "tmpfs", MS_REMOUNT)


def test_a_directory_that_is_missing_stops_nothing(told: Daemon) -> None:
    configure(told, str(told.directory / "nowhere" / "metrics.prom"))
    told.start()
    assert told.log().count("no metrics: [Errno 2]") == 1
    with told.repairing("one", "missing"):
        os.unlink(told.directory / "one")
