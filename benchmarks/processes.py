"""A trivial function in another process of one's own, without a server: process pools and a local Dask cluster.

All have two processes. slacker's are started by spawn, as ProcessPoolExecutor's are here.
"""

from __future__ import annotations
