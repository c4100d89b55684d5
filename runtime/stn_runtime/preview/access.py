"""Access to the preview: the access token, the Host check, and the headers that protect every answer."""

import base64
import hashlib
import hmac
import ipaddress
import logging
import re
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

_WITHOUT_TOKEN = "the token is missing or wrong: open the address that stn run printed, which ends in ?token=..."
_ELSEWHERE = "this page is for this machine alone: open it as localhost, or give --serve 0.0.0.0:PORT and a token"


class AccessControl:
    """Passes on the requests that carry the access token and address this machine; refuses all others.

    Args:
        app: Answers the requests that are passed on.
        token: The access token, expected as ``Authorization: Bearer`` or ``?token=``; None when none is required.
        only_loopback: Whether the server listens on loopback only. Then a request whose Host names another machine is
            refused: it comes from a foreign page whose name was made to resolve to loopback (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, token: bytes | None, only_loopback: bool) -> None:
        self._app, self._token, self._only_loopback = app, token, only_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        if self._only_loopback and not _is_loopback(headers.get("host", "")):
            await PlainTextResponse(_ELSEWHERE, 421)(scope, receive, send)
        elif self._token is not None and not _carries(self._token, headers, scope["query_string"]):
            challenge = {"WWW-Authenticate": "Bearer"}
            await PlainTextResponse(_WITHOUT_TOKEN, 401, challenge)(scope, receive, send)
        else:
            try:
                await self._app(scope, receive, send)
            except Exception as error:  # a failed answer ends neither the run nor the other answers
                log.error("preview: %s could not be answered (%s)", ascii(scope["path"]), error)


def _is_loopback(host: str) -> bool:
    """Return whether a Host header names loopback: "localhost:8000" and "[::1]" do, "localhost.example" does not."""
    match = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::\d+)?", host.lower())
    if match is None:
        return False
    name = match[1] or match[2]
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _carries(token: bytes, headers: Headers, query: bytes) -> bool:
    """Return whether a request carries the access token in its headers or its query."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    values = parse_qs(query.decode("latin-1"), errors="surrogateescape").get("token", [])
    candidates = [value.encode("utf-8", "surrogateescape") for value in values]
    if scheme.lower() == "bearer":
        candidates.append(credentials.strip().encode("latin-1"))
    return any([hmac.compare_digest(token, candidate) for candidate in candidates])  # a list: all are compared


def protective_headers(page: str) -> list[tuple[str, str]]:
    """Return headers for every answer; they let a browser run only the page's own inline script and style."""
    inline = {tag: re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style")}
    hashes = {tag: " ".join(map(_hash, texts)) for tag, texts in inline.items()}
    policy = (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return [
        ("Content-Security-Policy", policy),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Referrer-Policy", "no-referrer"),  # the page's address may contain the access token
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
    ]


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
