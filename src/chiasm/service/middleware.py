"""Checks of every request: host name, origin, key, size of the body and time to arrive."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chiasm.service.refusals import Refusal, shortened

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SECURE_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; "
        "connect-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


def add_secure_headers(headers: MutableHeaders, path: str) -> None:
    """Add the headers that every answer has."""
    for name, value in _SECURE_HEADERS.items():
        headers.setdefault(name, value)
    if path.startswith("/v1/"):
        headers.setdefault("cache-control", "no-store")


def error_response(refusal: Refusal) -> JSONResponse:
    """Return the answer for a refused request."""
    headers = {"connection": "close"} if refusal.status in (408, 413) else {}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["www-authenticate"] = 'ApiKey realm="chiasm"'
    return JSONResponse(
        {"error": {"code": refusal.code, "message": str(refusal)}}, refusal.status, headers
    )


class RequestGuard:
    """ASGI middleware that checks every request; paths below ``/v1/`` need a key if there are any.

    Pages of other origins may change nothing.

    Args:
        app: the application behind it.
        keys: accepted API keys; none means that no key is needed.
        admin_keys: accepted as well, where a key is needed.
        names: accepted host names besides numeric addresses; none accepts any. A page can point
            its own name here after it was opened (DNS rebinding), and could read everything from a
            service without keys.
        most_bytes: of a body, counted while it is read, whatever its header declares.
        seconds: in which a body must arrive.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: tuple[str, ...],
        admin_keys: tuple[str, ...] = (),
        names: tuple[str, ...],
        most_bytes: int,
        seconds: float,
    ) -> None:
        self._app = app
        self._keys = (*keys, *admin_keys) if keys else ()
        self._names = frozenset(name.lower() for name in names)
        self._most = most_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer why it is refused."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                add_secure_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        headers = Headers(scope=scope)
        if self._names and not self._is_accepted_host(headers):
            unknown_host = Refusal(
                403,
                "unknown_host",
                f"{shortened(headers.get('host', ''))} is not a host name of this service. If it "
                "should be, start the service with --host-names and that name.",
            )
            await error_response(unknown_host)(scope, receive, send_secured)
            return
        if scope["method"] not in _SAFE_METHODS and _is_cross_origin(headers):
            cross_origin = Refusal(
                403,
                "other_origin",
                f"This request comes from a page of {shortened(headers['origin'])}, and only this "
                "service's own page may change anything here. If there is a proxy between, let it "
                "pass the Host header on.",
            )
            await error_response(cross_origin)(scope, receive, send_secured)
            return
        if self._keys and scope["path"].startswith("/v1/") and not self._has_key(headers):
            wrong_key = Refusal(
                401,
                "wrong_key",
                "The header X-API-Key is missing or wrong; ask the operator of this service for a "
                "key.",
            )
            await error_response(wrong_key)(scope, receive, send_secured)
            return
        await self._app(scope, self._counted(receive), send_secured)

    def _is_accepted_host(self, headers: Headers) -> bool:
        """Tell whether the Host header is an accepted name or a numeric address."""
        try:
            host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            if host in self._names:
                return True
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def _has_key(self, headers: Headers) -> bool:
        return is_among(headers.get("x-api-key", ""), self._keys)

    def _counted(self, receive: Receive) -> Receive:
        read = 0
        deadline = time.monotonic() + self._seconds
        body_ended = False

        async def counted() -> Message:
            nonlocal read, body_ended
            if body_ended:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(deadline - time.monotonic(), 0.001))
            except TimeoutError:
                raise Refusal(
                    408,
                    "too_slow",
                    f"The request's body had not arrived after {self._seconds:g} s; send smaller "
                    "files or use a faster connection.",
                ) from None
            body_ended = not message.get("more_body", False)
            read += len(message.get("body", b""))
            if read > self._most:
                await _discard(receive, message, self._most)
                raise Refusal(
                    413,
                    "too_large",
                    f"The request is larger than {self._most / 2**20:g} MB, the most that this "
                    "service takes (option --max-mb).",
                )
            return message

        return counted


def is_among(sent: str, keys: Iterable[str]) -> bool:
    """Tell whether a key is one of some, in a time that does not say how alike it is."""
    given = sent.encode("latin-1", "replace")
    return True in [hmac.compare_digest(given, key.encode()) for key in keys]


def _is_cross_origin(headers: Headers) -> bool:
    """Tell whether a browser sends this for a page of another origin."""
    origin = headers.get("origin")
    # Browsers set the second header and pages cannot; it is right behind any proxy, too.
    if origin is None or headers.get("sec-fetch-site") == "same-origin":
        return False
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{headers.get('host', '')}")
        port = theirs.port or {"http": 80, "https": 443}.get(theirs.scheme)
        # Proxies that end TLS often leave the port out of the Host that they pass on.
        ports_differ = ours.port is not None and port != ours.port
        return theirs.hostname is None or theirs.hostname != ours.hostname or ports_differ
    except ValueError:  # the port is out of range
        return True


async def _discard(receive: Receive, message: Message, most: int) -> None:
    """Discard the rest of a body: a client that still writes would not read the refusal."""
    discarded = 0
    try:
        async with asyncio.timeout(2.0):
            while message.get("more_body", False) and discarded < most:
                message = await receive()
                discarded += len(message.get("body", b""))
    except TimeoutError:
        pass
