"""Files of the page, read once at the start, and the policy that a browser holds them to (CSP)."""

from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from semlink.service.problems import problem_response
from studio.rounds import digest_of

FOLDER = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Of files that are served, by their endings; no other file is."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class PageFile:
    """A file as it is served."""

    data: bytes
    media_type: str
    tag: str


def page_files() -> dict[str, PageFile]:
    """Files by the paths under which they are served; the page itself is at /."""
    found = {}
    for file in sorted(FOLDER.rglob("*")):
        if file.suffix in TYPES:
            data = file.read_bytes()
            path = f"/page/{file.relative_to(FOLDER).as_posix()}"
            found["/" if path == "/page/index.html" else path] = PageFile(
                data, TYPES[file.suffix], f'"{digest_of(data)}"'
            )
    return found


class PageMiddleware:
    """Answers with the headers that keep a page to itself, and refuses what other sites' pages ask for.

    Of a browser's requests, those that a page of another site causes say so in Sec-Fetch-Site; links to the page
    itself may come from anywhere.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        """Around `app`. `origins`: of other sites whose pages may call it."""
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        is_own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        is_foreign = not is_own and headers.get("origin") not in self._origins
        if is_foreign and not (scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"):
            answer = problem_response(
                scope["path"], 403, "a page of another origin may not call this process", reason="origin"
            )
            await answer(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)
