"""Dask's: ``python -m benchmarks.far_side.dask_cluster PORT PROCESSES THREADS``. A scheduler here, workers as children.

Whoever on this machine reaches the port can run any code in them, as with every local cluster.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import Any

from distributed import LocalCluster


def _stop(*signal_and_frame: Any) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    port, processes, threads = map(int, sys.argv[1:])
    signal.signal(signal.SIGTERM, _stop)
    with LocalCluster(  # type: ignore[no-untyped-call]
        host="127.0.0.1",
        scheduler_port=port,
        n_workers=processes,
        threads_per_worker=threads,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
        preload=["benchmarks.far_side.set_up"],
    ):
        while True:
            signal.pause()
