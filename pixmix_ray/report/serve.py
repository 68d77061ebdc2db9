"""The page of a results folder on this machine's loopback, made anew whenever the results change.

Nobody else's page may read it: only requests that name this server as their host are answered, so that a name that
somebody else points to 127.0.0.1 gets nothing (DNS rebinding).
"""

import hashlib
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pixmix_ray.errors import RequestError, ResultsError
from pixmix_ray.report.page import page
from pixmix_ray.storage.index import list_cells, read
from pixmix_ray.storage.store import Store

LOOPBACK = "127.0.0.1"
WAITING = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>waiting</title>
<p>Nothing has been measured here yet. This page looks again every five seconds."""


class Pages:
    """The page of a results folder as it is now; made anew only where the cells changed."""

    def __init__(self, store: Store) -> None:
        """Serve the results in `store`."""
        self._store = store
        self._lock = threading.Lock()
        self._stamp, self._text = "", ""

    def stamp(self) -> str:
        """What tells this state of the results from others.

        Raises:
            ResultsError: the results cannot be read.
        """
        cells = sorted((name, stamp.modified, stamp.size) for name, stamp in list_cells(self._store).items())
        return hashlib.sha256(repr(cells).encode()).hexdigest()[:16]

    def text(self) -> str:
        """The page."""
        with self._lock:
            stamp = self.stamp()
            if stamp != self._stamp:
                try:
                    self._text = page(self._store, read(self._store.uri), live=stamp)
                except ResultsError:  # a sweep that has begun and measured nothing
                    self._text = WAITING
                self._stamp = stamp
            return self._text


def server(store: Store, port: int) -> ThreadingHTTPServer:
    """A server of the page on the loopback; `serve_forever` runs it.

    Args:
        store: the results folder.
        port: where it listens; 0 for any that is free.

    Raises:
        RequestError: somebody else listens there.
    """
    pages = Pages(store)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that the library calls
            answers: dict[str, Callable[[], str]] = {"/": pages.text, "/stamp": pages.stamp}
            own = {f"{name}:{self.server.server_port}" for name in (LOOPBACK, "localhost")}  # type: ignore[attr-defined]  # of HTTPServer
            if self.headers.get("Host") not in own:
                self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            elif self.path not in answers:
                self.send_error(HTTPStatus.NOT_FOUND)
            else:
                self._answer(answers[self.path])

        def _answer(self, make: Callable[[], str]) -> None:
            try:
                body, status = make().encode(), HTTPStatus.OK
            except ResultsError as error:
                body, status = str(error).encode(), HTTPStatus.SERVICE_UNAVAILABLE
            self.send_response(status)
            kind = "text/plain" if self.path == "/stamp" or status != HTTPStatus.OK else "text/html"
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing of requests."""

    try:
        return ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise RequestError(f"cannot listen on port {port}: {error.strerror}; choose another with --port") from None
