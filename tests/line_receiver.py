"""A server that takes what a webhook posts."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """Keeps the records that it gets while ``status`` is 204."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 204
        super().__init__(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.status == 204:
            self.server.got.append(row)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...
