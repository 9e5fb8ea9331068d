"""Serve the cities of the world: a Tornado application whose queries go through Django's ORM, off the loop.

    python serve.py                                  http://127.0.0.1:8888/, the data in a SQLite file
    python serve.py --port 0 --verbose               any free port; each call that leaves the loop is logged
    CITIES_DATABASE_URL=postgresql://... python serve.py

The first start makes the database. Ctrl-C ends the server.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError, connections
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from slacker import Worker
from slacker.workers.django import DjangoThreadWorker

WORKERS: dict[str, Callable[[], Worker]] = {
    "thread": DjangoThreadWorker,
}


def main() -> None:
    """Read the command line, prepare the database, and serve until a signal ends it."""
    arguments = parse_arguments()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if arguments.verbose:
        logging.getLogger("slacker").setLevel(logging.DEBUG)
    try:
        prepare_database()
    except (DatabaseError, ImproperlyConfigured, OSError) as error:
        sys.exit(f"Cannot use the database: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped while the database was being filled; the next start fills it.")
    try:
        sockets = bind_sockets(arguments.port, arguments.address)
    except OSError as error:
        sys.exit(f"Cannot listen on {arguments.address}, port {arguments.port}: {error}. Choose another with --port.")
    asyncio.run(serve(sockets, arguments.address, WORKERS[arguments.worker]()))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve the cities of the world.")
    parser.add_argument("--address", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8888, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--worker", choices=WORKERS, default="thread", help="where queries run (default: %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="log each call that leaves the loop")
    return parser.parse_args()


def prepare_database() -> None:
    """Bring the tables up to date and fill them if they are empty. This blocks: the loop does not run yet."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "cities.settings"
    django.setup()
    from cities.loading import fill  # models can be imported only after django.setup()

    try:
        call_command("migrate", verbosity=0)
        fill()
    finally:
        connections.close_all()


async def serve(sockets: list[socket.socket], address: str, worker: Worker) -> None:
    """Serve on `sockets` until SIGINT or SIGTERM arrives, then let the queries under way finish, and close `worker`."""
    from cities.handlers import make_app  # as above

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    server = HTTPServer(make_app(worker))
    server.add_sockets(sockets)
    host = f"[{address}]" if ":" in address else address
    print(f"Serving cities on http://{host}:{sockets[0].getsockname()[1]}/", flush=True)
    await stop.wait()
    server.stop()
    await worker.aclose()
    await server.close_all_connections()


if __name__ == "__main__":
    main()
