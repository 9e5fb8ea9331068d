"""``manage.py runslacker``: serve the hook, and nothing else of the project, on granian."""

from __future__ import annotations

import ipaddress
import multiprocessing
import os
import re
import socket
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from slacker.django_backend import conf, keyrings, lifeline

_ADDRESS = re.compile(r"(?:(?P<host>\[[^\]]+\]|[^:]+):)?(?P<port>[0-9]{1,5})")
_MAKE_A_KEY = f"Make one with: {keyrings.HOW_TO_MAKE_A_KEY}"


class Command(BaseCommand):
    """Serves chains to DjangoHttpWorkers, without the project's middleware."""

    help = "Serves slacker's hook: the far side of DjangoHttpWorker. Needs the extra 'server' (granian)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "addrport", nargs="?", default="127.0.0.1:8000", help="[address:]port, by default 127.0.0.1:8000"
        )
        parser.add_argument(
            "--processes", type=int, default=min(4, os.cpu_count() or 1), help="by default cores, at most 4"
        )
        parser.add_argument(
            "--threads", type=int, help="in each process; by default 4, or 2 if all databases are SQLite"
        )
        parser.add_argument("--reload", action="store_true", help="restart when Python code below this folder changes")

    def handle(
        self, *args: Any, addrport: str, processes: int, threads: int | None, reload: bool, **options: Any
    ) -> None:
        try:
            from granian.constants import Interfaces
            from granian.log import LogLevels
            from granian.server import Server
            from watchfiles import PythonFilter
        except ImportError as error:
            raise CommandError("runslacker needs granian: pip install 'tornado-slacker[server]'") from error
        address, port = _parse(addrport)
        loopback = conf.is_loopback(address)
        _check_keys(address, loopback)
        if threads is None:
            threads = 2 if _only_sqlite() else 4
        if processes < 1 or threads < 1:
            raise CommandError("--processes and --threads must be at least 1")
        _check_free(address, port)
        connections.close_all()
        # By default granian forks on Linux, and its processes inherit whatever Django and slacker hold by now.
        multiprocessing.set_start_method("spawn", force=True)
        verbose = options["verbosity"] > 1
        server = Server(
            "slacker.django_backend.server:" + ("loopback_application" if loopback else "application"),
            address=address,
            port=port,
            interface=Interfaces.WSGI,
            workers=processes,
            blocking_threads=threads,
            blocking_threads_idle_timeout=60,  # then its database connections are closed as well
            websockets=False,
            log_level=LogLevels.info if verbose else LogLevels.warning,
            log_access=verbose,
            respawn_failed_workers=True,  # if one dies twice within 5 s all end, for a supervisor to start again
            workers_kill_timeout=lifeline.GRACE,
            reload=reload,
            reload_paths=[Path.cwd()],
            reload_filter=PythonFilter,  # and not a SQLite file, which changes with the work
            reload_ignore_worker_failure=True,  # of code that cannot be imported just now
        )
        shown = f"[{address}]" if ":" in address else address
        self.stdout.write(f"Serving slacker's hook on http://{shown}:{port}/ ({processes} x {threads} threads)")
        self.stdout.flush()
        server.serve(target_loader=lifeline.load)


def _parse(addrport: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(addrport)
    host = match["host"] if match else ""
    try:
        if match is None or not 1 <= int(match["port"]) <= 65535:
            raise ValueError
        address = ipaddress.ip_address("127.0.0.1" if host in (None, "localhost") else host.strip("[]"))
    except ValueError:
        raise CommandError(f"expected [address:]port, such as 127.0.0.1:8000 or [::1]:8000, got {addrport!r}") from None
    return str(address), int(match["port"])


def _check_keys(address: str, loopback: bool) -> None:
    if keyrings.keyring() is not None:
        return
    if not loopback:
        raise CommandError(
            f"{address} can be reached over the network, so SLACKER_KEY must be set: who calls the hook can run code. "
            f"{_MAKE_A_KEY}"
        )
    if keyrings.derived_keyring() is None:
        raise CommandError(f"There is no SLACKER_KEY, and SECRET_KEY is too weak to derive one of it. {_MAKE_A_KEY}")


def _check_free(address: str, port: int) -> None:
    # granian itself would share the port with whoever has it: half of the calls would go there. Not by listening, or
    # who waits for the server would take this for it.
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise CommandError(f"{address} port {port} cannot be listened on: {error}") from error


def _only_sqlite() -> bool:
    return all(configured["ENGINE"].endswith(".sqlite3") for configured in connections.settings.values())
