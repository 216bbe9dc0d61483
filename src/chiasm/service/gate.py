"""What every request passes first: the key, the size of its body, the time that it may take."""

from __future__ import annotations

import asyncio
import hmac
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chiasm.service.refusals import Refusal

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


class Gate:
    """ASGI middleware; what is below ``/v1/`` needs a key where there are keys.

    Args:
        app: what comes after the gate.
        keys: any of which opens; none means that no key is needed.
        most_bytes: of a body, counted while it is read: what a client declares is not believed.
        seconds: in which a body must have come.
    """

    def __init__(
        self, app: ASGIApp, *, keys: tuple[str, ...], most_bytes: int, seconds: float
    ) -> None:
        self._app = app
        self._keys = tuple(key.encode() for key in keys)
        self._most = most_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURE.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/v1/"):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if self._keys and scope["path"].startswith("/v1/") and not self._opens(headers):
            key = Refusal(
                401,
                "wrong_key",
                "The header X-API-Key is missing or wrong; ask whoever runs this service for a "
                "key.",
            )
            await refused(key)(scope, receive, secured)
            return
        await self._app(scope, self._counted(receive), secured)

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
