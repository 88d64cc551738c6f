"""The gateway's HTTP port: metrics for Prometheus, and probes for whoever speaks no gRPC."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

StartResponse: TypeAlias = Callable[[str, list[tuple[str, str]]], object]

# An event loop that takes no turn for so long serves nobody.
_MAX_TURN_S = 5.0


class HttpPort:
    """Serves from `start` to `stop`, on threads of its own, so that it answers beside a busy loop.

    `/metrics`; `/ready`, 200 while new sessions are taken; `/live`, 200 while the event loop turns.

    Args:
        registry: the metrics.
        is_ready: whether new sessions are taken.
    """

    def __init__(self, registry: CollectorRegistry, is_ready: Callable[[], bool]) -> None:
        self._metrics = make_wsgi_app(registry)
        self._is_ready = is_ready

    def start(self, host: str, port: int) -> int:
        """Listens; returns the port, which is any free one for 0. Called in the event loop.

        Raises:
            OSError: the port is taken.
        """
        self._loop = asyncio.get_running_loop()
        kind = _ServerV6 if ":" in host else _Server
        self._server = make_server(host, port, self._answer, kind, _SilentHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self._server.server_port

    async def stop(self) -> None:
        """Closes the port."""
        # Waits for the thread's next look.
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/ready":
                is_well = self._is_ready()
            case "/live":
                is_well = self._does_loop_turn()
            case _:
                return self._metrics(environ, start_response)
        status, text = ("200 OK", b"yes\n") if is_well else ("503 Service Unavailable", b"no\n")
        start_response(status, [("Content-Type", "text/plain"), ("Cache-Control", "no-store")])
        return [text]

    def _does_loop_turn(self) -> bool:
        turned = threading.Event()
        self._loop.call_soon_threadsafe(turned.set)
        return turned.wait(_MAX_TURN_S)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _ServerV6(_Server):
    address_family = socket.AF_INET6


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: probes and scrapes come every few seconds."""
