"""Who may come in to the preview, and what every answer says to keep others out."""

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


class Door:
    """Refuses whoever has not the token, or comes by a name that is not this machine's own.

    Args:
        app: What is behind the door.
        token: That must be given as ``Authorization: Bearer`` or ``?token=``; None when anybody may come.
        only_here: Whether the preview serves this machine alone. Then a page from elsewhere, whose name was made to
            lead here (DNS rebinding), is told apart by the host that its browser names.
    """

    def __init__(self, app: ASGIApp, token: bytes | None, only_here: bool) -> None:
        self._app, self._token, self._only_here = app, token, only_here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        if self._only_here and not _is_this_machine(headers.get("host", "")):
            await PlainTextResponse("Misdirected Request", 421)(scope, receive, send)
        elif self._token is not None and not _has(self._token, headers, scope["query_string"]):
            challenge = {"WWW-Authenticate": "Bearer"}
            await PlainTextResponse("Unauthorized", 401, challenge)(scope, receive, send)
        else:
            try:
                await self._app(scope, receive, send)
            except Exception as error:  # of one answer; the run and the other answers go on
                log.error("preview: %s could not be answered (%s)", ascii(scope["path"]), error)


def _is_this_machine(host: str) -> bool:
    found = re.fullmatch(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::\d+)?", host.lower())
    if found is None:
        return False
    name = found[1] or found[2]
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _has(token: bytes, headers: Headers, query: bytes) -> bool:
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    given = parse_qs(query.decode("latin-1"), errors="surrogateescape").get("token", [])
    offered = [text.encode("utf-8", "surrogateescape") for text in given]
    if scheme.lower() == "bearer":
        offered.append(credentials.strip().encode("latin-1"))
    return any([hmac.compare_digest(token, offer) for offer in offered])


def protective_headers(page: str) -> list[tuple[str, str]]:
    """Return headers for every answer; the page's own inline script and style are the only ones that may run."""
    inline = {tag: re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style")}
    allowed = {tag: " ".join(map(_hash, texts)) for tag, texts in inline.items()}
    policy = (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return [
        ("Content-Security-Policy", policy),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Referrer-Policy", "no-referrer"),  # the address may hold the token
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
    ]


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
