"""Records by HTTP POST, signed."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from chiasm.errors import ConfigurationError
from chiasm.line.outlets.outlet import (
    Options,
    OutletAwayError,
    RefusedRecordError,
    outlet,
    shown,
)
from chiasm.line.record import Payload

# The request itself is at fault, and would be so again. All other answers may change.
_SECRET = 8  # letters; shorter words are no secrets, and stand in sentences
_REFUSED = frozenset({400, 406, 409, 410, 413, 414, 415, 422})


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is redirected becomes a GET without a body, and the record would be lost."""

    def redirect_request(self, *_: Any) -> None:
        return None


class WebhookOutlet:
    """Posts each record as JSON.

    The header ``Idempotency-Key`` is the record's id. With a secret ``X-Chiasm-Signature`` is
    ``sha256=`` and the HMAC-SHA256, hexadecimal, of ``X-Chiasm-Timestamp`` (seconds since 1970), a
    full stop and the body.

    Args:
        url: address.
        secret: of the signature; "" signs nothing.
        headers: further ones.
        context: of TLS; None takes the system's certificates.
        timeout_s: seconds for an answer.
    """

    beat_s: float | None = None

    def __init__(
        self,
        url: str,
        *,
        secret: str = "",
        headers: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._url, self._secret, self._timeout = url, secret, timeout_s
        self._headers = dict(headers or {})
        self.where = shown(url)
        # An address may be a secret, as those of chat rooms are; a receiver may repeat all of them.
        path = url.partition("://")[2].partition("/")[2]
        words = " ".join([secret, *self._headers.values(), path]).split()
        self._hidden = sorted({word for word in words if len(word) >= _SECRET}, key=len)[::-1]
        self._opener = urllib.request.build_opener(
            _NoRedirect(), urllib.request.HTTPSHandler(context=context)
        )

    def check(self) -> None:
        """Do nothing: there is no connection before a record."""

    def send(self, record: Payload) -> None:
        """Post a record; any answer of 200 to 299 means that it arrived."""
        body = json.dumps(record).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": str(record["id"]),
            **self._headers,
        }
        if self._secret:
            stamp = str(int(time.time()))
            headers["X-Chiasm-Timestamp"] = stamp
            headers["X-Chiasm-Signature"] = signature(self._secret, stamp, body)
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                answer.read(65536)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(200).decode("utf-8", "replace")
            place = error.headers.get("Location")
            moved = f"; it redirects to {place}: write that address" if place else ""
            sentence = f"{self.where} answers {error.code}{moved}. {' '.join(said.split())}".strip()
            sentence = self._without_secrets(sentence)
            if error.code in _REFUSED:
                raise RefusedRecordError(sentence) from None
            raise OutletAwayError(sentence) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            sentence = f"{self.where} cannot be reached ({reason})."
            raise OutletAwayError(self._without_secrets(sentence)) from None

    def _without_secrets(self, sentence: str) -> str:
        for text in self._hidden:
            sentence = sentence.replace(text, "…")
        return sentence

    def close(self) -> None:
        """Do nothing: no connection is kept."""


def signature(secret: str, stamp: str, body: bytes) -> str:
    """Return the signature of a body as its header has it."""
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


@outlet("webhook")
def webhook(options: Options) -> WebhookOutlet:
    """Build a webhook from its options."""
    url = options.text("url")
    if not url.startswith(("http://", "https://")):
        raise options.wrong("url", url, "http://... or https://...")
    authorization = options.secret("authorization")
    headers = {name: str(value) for name, value in options.mapping("headers").items()}
    if any(name.lower() == "authorization" for name in headers):
        raise ConfigurationError(
            f"{options.where}: an Authorization header must not stand in this file; name the "
            "variable that holds it (authorization_env: CHIASM_AUTHORIZATION)."
        )
    if authorization:
        headers["Authorization"] = authorization
    return WebhookOutlet(
        url,
        secret=options.secret("secret"),
        headers=headers,
        context=tls_context(options.section("tls")),
        timeout_s=options.number("timeout_s", 10.0, low=0.1, high=600),
    )


def tls_context(options: Options | None) -> ssl.SSLContext | None:
    """Return a TLS context of ``ca``, ``certificate`` and ``key``; None without options."""
    if options is None:
        return None
    ca, certificate = options.file("ca", ""), options.file("certificate", "")
    key = options.file("key", "")
    options.end()
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{options.where}: a certificate cannot be used: {error}"
        ) from error
    return context
