"""`DaskWorker`: chains replayed on a Dask cluster. Needs the extra ``dask``."""

from __future__ import annotations

from concurrent.futures import Future

from distributed import Client

from ..chain import Chain
from ..errors import SlackerError, TransportError, WorkerClosed
from .executor import ExecutorWorker, Reply
from .transfer import encode

__all__ = ["DaskWorker"]


class DaskWorker(ExecutorWorker):
    """Replays chains on a Dask cluster: for work that needs more than one machine.

    Only bytes are handed to the cluster, whose workers need this package, and whatever the chains name. Each call is a
    task of its own: Dask would make one of two that look alike. Streams are refused.

    **A call may run twice**: when a worker of the cluster dies, the scheduler gives its tasks to another one, as often
    as its setting ``distributed.scheduler.allowed-failures`` says. Cancelling a call, or its time limit, makes the
    cluster forget it; what runs already goes on to its end. So it is never known whether a call ran that did not come
    back: its error has ``executed`` None.

    May be shared between loops and threads, as far as the client may be.

    Args:
        client: of `distributed`. It is used, and not owned: whoever made it closes it. It should have a loop of its
            own: one that is ``asynchronous`` works as well, but does not tell the cluster of calls that were cancelled
            or are late.

    Raises:
        TypeError: `client` is no `distributed.Client`.
    """

    def __init__(self, client: Client) -> None:
        if not isinstance(client, Client):
            raise TypeError(f"client must be a distributed.Client, got {client!r}")
        super().__init__(client.get_executor(pure=False))  # type: ignore[no-untyped-call]
        self._client = client

    @staticmethod
    def encode(chain: Chain) -> bytes:
        return encode(chain, timed=False)  # the clocks of a cluster may differ

    @staticmethod
    def cancelled() -> SlackerError:
        return TransportError("the cluster gave this call up, or was closed; whether it ran is not known")

    def _submit(self, chain: Chain, envelope: bytes) -> Future[Reply]:
        if self._client.status in ("closing", "closed"):
            raise WorkerClosed(f"{self!r} takes no more calls, its client is closed: {chain.outline()} did not run")
        return super()._submit(chain, envelope)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client!r})"
