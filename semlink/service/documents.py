"""API documentation page (Swagger UI) whose files this process serves: no request to anybody else's server."""

import base64
import hashlib
import re
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.staticfiles import StaticFiles

PAGE, FILES = "/docs", "/docs/files"
_SCRIPT, _STYLE, _ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"
DOCUMENT_PATHS = ("/openapi.json", PAGE, *(f"{FILES}/{name}" for name in (_SCRIPT, _STYLE, _ICON)))
"""Need no key: they are as public as the sources, and a browser sends none."""
_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def install_documents(app: FastAPI) -> None:
    """Answers `/docs` of an `app` that is made without FastAPI's own pages, which load their files from a CDN."""
    # Relative, as a proxy may serve this process below a path.
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url=f"docs/files/{_SCRIPT}",
        swagger_css_url=f"docs/files/{_STYLE}",
        swagger_favicon_url=f"docs/files/{_ICON}",
    )
    text = bytes(page.body).decode()
    scripts = " ".join(f"'sha256-{_sha256(script)}'" for script in _INLINE.findall(text))
    policy = (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    )

    @app.get(PAGE, include_in_schema=False)
    async def documents() -> Response:
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": policy})

    app.mount(FILES, StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static"))


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
