"""What every request passes first: the key, the size of its body, the time that it may take."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chiasm.service.refusals import Refusal, shortened

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_SECURE = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; "
        "connect-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


def secured(headers: MutableHeaders, path: str) -> None:
    """Give an answer the headers that every answer has."""
    for name, value in _SECURE.items():
        headers.setdefault(name, value)
    if path.startswith("/v1/"):
        headers.setdefault("cache-control", "no-store")


def refused(refusal: Refusal) -> JSONResponse:
    """The answer that says why."""
    headers = {"connection": "close"} if refusal.status in (408, 413) else {}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["www-authenticate"] = 'ApiKey realm="chiasm"'
    return JSONResponse(
        {"error": {"code": refusal.code, "message": str(refusal)}}, refusal.status, headers
    )


class RequestGuard:
    """ASGI middleware; what is below ``/v1/`` needs a key where there are keys.

    Pages of other origins may change nothing, whoever opens them.

    Args:
        app: what comes after the gate.
        keys: any of which opens; none means that no key is needed.
        names: by which the service may be called beside addresses in numbers; none means any. A
            page can have its own name lead here after it was opened (DNS rebinding), and where no
            key is needed it would read what it likes.
        most_bytes: of a body, counted while it is read: what a client declares is not believed.
        seconds: in which a body must have come.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: tuple[str, ...],
        names: tuple[str, ...],
        most_bytes: int,
        seconds: float,
    ) -> None:
        self._app = app
        self._keys = tuple(key.encode() for key in keys)
        self._names = frozenset(name.lower() for name in names)
        self._most = most_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                secured(MutableHeaders(scope=message), scope["path"])
            await send(message)

        headers = Headers(scope=scope)
        if self._names and not self._is_called(headers):
            stranger = Refusal(
                403,
                "unknown_host",
                f"This service is not called {shortened(headers.get('host', ''))}. If that is its "
                "name, start it with --host-names and that name.",
            )
            await refused(stranger)(scope, receive, noted)
            return
        if scope["method"] not in _READING and _from_elsewhere(headers):
            foreign = Refusal(
                403,
                "other_origin",
                f"A page of {shortened(headers['origin'])} asked for this, and only this service's "
                "own page may change anything here. If a proxy stands between, let it pass the "
                "Host header on.",
            )
            await refused(foreign)(scope, receive, noted)
            return
        if self._keys and scope["path"].startswith("/v1/") and not self._opens(headers):
            key = Refusal(
                401,
                "wrong_key",
                "The header X-API-Key is missing or wrong; ask whoever runs this service for a "
                "key.",
            )
            await refused(key)(scope, receive, noted)
            return
        await self._app(scope, self._counted(receive), noted)

    def _is_called(self, headers: Headers) -> bool:
        """Whether the service is asked for by a name of its own, or by an address in numbers."""
        try:
            host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            if host in self._names:
                return True
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def _opens(self, headers: Headers) -> bool:
        given = headers.get("x-api-key", "").encode("latin-1", "replace")
        return any(hmac.compare_digest(given, key) for key in self._keys)

    def _counted(self, receive: Receive) -> Receive:
        read = 0
        until = time.monotonic() + self._seconds
        body_ended = False

        async def counted() -> Message:
            nonlocal read, body_ended
            if body_ended:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(until - time.monotonic(), 0.001))
            except TimeoutError:
                raise Refusal(
                    408,
                    "too_slow",
                    f"The request's body had not come after {self._seconds:g} s; send smaller "
                    "files or use a faster line.",
                ) from None
            body_ended = not message.get("more_body", False)
            read += len(message.get("body", b""))
            if read > self._most:
                await _drained(receive, message, self._most)
                raise Refusal(
                    413,
                    "too_large",
                    f"The request is larger than {self._most / 2**20:g} MB, the most that this "
                    "service takes (option --max-mb).",
                )
            return message

        return counted


def _from_elsewhere(headers: Headers) -> bool:
    """Tell whether a browser sends this for a page of another origin."""
    origin = headers.get("origin")
    # Only browsers set the second header and no page can; it is right behind any proxy.
    if origin is None or headers.get("sec-fetch-site") == "same-origin":
        return False
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{headers.get('host', '')}")
        port = theirs.port or {"http": 80, "https": 443}.get(theirs.scheme)
        # Proxies that end TLS often leave the port out of the Host that they pass on.
        ports_differ = ours.port is not None and port != ours.port
        return theirs.hostname is None or theirs.hostname != ours.hostname or ports_differ
    except ValueError:  # no port is such a number
        return True


async def _drained(receive: Receive, message: Message, most: int) -> None:
    """Throw away what comes next: a client that still writes would not read why it was refused."""
    thrown = 0
    try:
        async with asyncio.timeout(2.0):
            while message.get("more_body", False) and thrown < most:
                message = await receive()
                thrown += len(message.get("body", b""))
    except TimeoutError:
        pass
