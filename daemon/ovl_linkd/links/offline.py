"""The farm's entries put right without a daemon, from what its ledger says of them."""

import time

from ovl_linkd.links.boot import boot_id
from ovl_linkd.links.ledger import Damaged, Ledger, path_of
from ovl_linkd.links.plot import Plot, Trouble


def mend(farm: str) -> tuple[Trouble | None, int, int]:
    """Put the entries of the directory FARM right: what is in the way, how many there are, and how
    many were put right.

    Nothing is leased and nothing expires: the ledger stays as it is, also for a daemon that runs.
    """
    plot, ledger = Plot(farm), Ledger(path_of(farm))
    entries = mended = 0
    try:
        memory = ledger.peek()
        leases = memory.leases if memory and memory.boot == boot_id() else []
        trouble = plot.obstacle() or (plot.make() if leases else None)
        for lease in () if trouble else leases:
            entries += 1
            mended += plot.mend(lease, time.monotonic(), insist=True) is not None
    except Damaged as error:
        trouble = Trouble("failing", f"{ledger.path} is damaged: {error}", "start the daemon")
    except OSError as error:
        trouble = plot.failing(error)
    return trouble or next(iter(plot.amiss.values()), None), entries, mended
