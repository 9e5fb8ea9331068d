"""Serve the cities of the world: a Tornado application whose queries go through Django's ORM, off the loop.

    python serve.py                                  http://127.0.0.1:8888/, the data in a SQLite file
    python serve.py --port 0 --verbose               any free port; each call that leaves the loop is logged
    python serve.py --worker thread                  queries in threads of this process, instead of a hook server
    python serve.py --worker process                 queries in local processes
    CITIES_DATABASE_URL=postgresql://... python serve.py

The first start makes the database. Unless it is told otherwise it starts a hook server, ``manage.py runslacker``, to
which all queries go. Ctrl-C ends both.
"""

import argparse
import asyncio
import contextlib
import io
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable

import django
from cities import outages
from cities.hook import HookFailed, HookServer
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import DatabaseError, connections
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from slacker import Worker
from slacker.workers.django import DjangoHttpWorker, DjangoProcessWorker, DjangoThreadWorker

WORKERS: dict[str, Callable[[], Worker]] = {
    "http": DjangoHttpWorker,
    "thread": DjangoThreadWorker,
    "process": DjangoProcessWorker,
}


def main() -> None:
    """Read the command line, prepare the database, and serve until a signal ends it."""
    arguments = parse_arguments()
    set_up_logging(arguments.verbose)
    hook = choose_hook(arguments)
    try:
        prepare_database()
    except (DatabaseError, ImproperlyConfigured, OSError) as error:
        sys.exit(f"Cannot use the database: {error}")
    except SystemCheckError as error:
        sys.exit(f"Cannot use the hook: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped while the database was being filled; the next start fills it.")
    try:
        sockets = bind_sockets(arguments.port, arguments.address)
    except OSError as error:
        sys.exit(f"Cannot listen on {arguments.address}, port {arguments.port}: {error}. Choose another with --port.")
    try:
        asyncio.run(serve(sockets, arguments.address, WORKERS[arguments.worker](), hook))
    except HookFailed as error:
        sys.exit(str(error))


def _port(text: str) -> int:
    if not 0 <= (port := int(text)) < 1 << 16:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text}")
    return port


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve the cities of the world.")
    parser.add_argument("--address", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8888, help="0 for any free one (default: %(default)s)")
    parser.add_argument(
        "--worker",
        choices=WORKERS,
        default="http",
        help="queries go to a hook server, to threads, or to local processes (default: http)",
    )
    parser.add_argument("--processes", type=int, metavar="N", help="of the hook server (default: cores, at most 4)")
    parser.add_argument(
        "--hook", metavar="URL", help="a hook that runs already; its key must be in the environment: SLACKER_KEY"
    )
    parser.add_argument("--verbose", action="store_true", help="log each call that leaves the loop")
    arguments = parser.parse_args()
    if arguments.worker != "http" and (arguments.hook or arguments.processes):
        parser.error("--hook and --processes are for --worker http")
    if arguments.hook and arguments.processes:
        parser.error("--processes is for a hook server that is started here, --hook for one that runs already")
    if arguments.hook and not os.environ.get("SLACKER_KEY"):
        parser.error("--hook needs that hook's key in the environment: SLACKER_KEY")
    return arguments


def set_up_logging(verbose: bool) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger().handlers[0].addFilter(outages.shorten)
    if verbose:
        logging.getLogger("slacker").setLevel(logging.DEBUG)


def choose_hook(arguments: argparse.Namespace) -> HookServer | None:
    """Put the hook's address and key where the settings of both sides look. Return the hook server to be started."""
    if arguments.worker != "http":
        return None
    if arguments.hook:
        os.environ["SLACKER_SERVER"] = arguments.hook
        return None
    hook = HookServer(arguments.processes)
    os.environ |= {"SLACKER_SERVER": hook.url, "SLACKER_KEY": secrets.token_hex(32)}
    return hook


def prepare_database() -> None:
    """Check the settings, bring the tables up to date and fill them. This blocks: the loop does not run yet."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "cities.settings"
    django.setup()
    from cities.loading import fill  # models can be imported only after django.setup()

    try:
        call_command("check", stdout=io.StringIO())
        call_command("migrate", verbosity=0)
        fill()
    finally:
        connections.close_all()


async def serve(sockets: list[socket.socket], address: str, worker: Worker, hook: HookServer | None) -> None:
    """Serve on `sockets` until a signal arrives; then let queries under way finish, and end `worker` and `hook`."""
    from cities.handlers import make_app  # as above

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    async with hook or contextlib.nullcontext():
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
