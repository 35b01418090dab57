"""`GET /openapi.json`, and `/docs` and `/redoc`, which show it.

FastAPI's own routes for these would ask for no key, as they take no dependencies.
"""

import base64
import hashlib
import re

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse

from causalrn.server.api.dependencies import RootPath

router = APIRouter(include_in_schema=False)

_CDN = "https://cdn.jsdelivr.net"
_ICON = "data:,"  # none, so that no third host is asked for one


@router.get("/openapi.json")
def openapi(request: Request, root_path: RootPath) -> Response:
    """Describe every route, in OpenAPI; at first that takes a while, on a thread of its own."""
    servers = {"servers": [{"url": root_path}]} if root_path else {}
    return JSONResponse(request.app.openapi() | servers)


@router.get("/docs")
async def swagger(request: Request, root_path: RootPath) -> Response:
    """Show the routes, to be tried out."""
    page = get_swagger_ui_html(
        openapi_url=f"{root_path}/openapi.json", title=_title(request), swagger_favicon_url=_ICON
    )
    return _page(page)


@router.get("/redoc")
async def redoc(request: Request, root_path: RootPath) -> Response:
    """Show the routes, to be read."""
    page = get_redoc_html(
        openapi_url=f"{root_path}/openapi.json",
        title=_title(request),
        redoc_favicon_url=_ICON,
        with_google_fonts=False,
    )
    return _page(page)


def _title(request: Request) -> str:
    return str(request.app.title)


def _page(page: HTMLResponse) -> Response:
    """A page that may load the libraries that show it, and run no other script but its own."""
    own = re.findall(rb"<script>(.*?)</script>", bytes(page.body), re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in own]
    page.headers["content-security-policy"] = "; ".join(
        (
            "default-src 'none'",
            " ".join(["script-src", _CDN, *(f"'sha256-{digest}'" for digest in digests)]),
            f"style-src {_CDN} 'unsafe-inline'",
            f"img-src 'self' data: {_CDN}",
            "worker-src blob:",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        )
    )
    return page
