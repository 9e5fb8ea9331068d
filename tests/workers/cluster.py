"""Dask clusters here: ``python -m tests.workers.cluster`` prints the address of one, and ends with its input."""

from __future__ import annotations

import logging
import sys

from distributed import LocalCluster


def local_cluster(processes: int) -> LocalCluster:
    return LocalCluster(
        n_workers=processes,
        threads_per_worker=2,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )


if __name__ == "__main__":
    with local_cluster(processes=2) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
