"""Dask clusters here: ``python -m tests.workers.cluster`` prints the address of one, and ends with its input."""

from __future__ import annotations

import logging
import sys

import dask
from distributed import LocalCluster

IDLE = {
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.profile.enabled": False,
}
"""What keeps a cluster from watching itself, which takes a tenth of a core even when it has nothing to do."""


def local_cluster(processes: int) -> LocalCluster:
    return LocalCluster(
        n_workers=processes,
        threads_per_worker=2,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )


if __name__ == "__main__":
    with dask.config.set(IDLE), local_cluster(processes=2) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
