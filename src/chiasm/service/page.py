"""The operator's page: static files that the build puts beside this module."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

PAGE = Path(__file__).parent / "page"
_HOW = (
    "The service runs; its page was not built. Run 'npm ci && npm run build' in the folder web/ of "
    "the sources, then start the service again. What the service can do is listed in "
    "/openapi.json.\n"
)


class _Beside(Mount):
    """Whatever is not of the interface, so that its addresses keep their own refusals."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope.get("path", "").startswith("/v1/"):
            return Match.NONE, {}
        return super().matches(scope)


def add_page(app: FastAPI, folder: Path = PAGE) -> None:
    """Serve the page at ``/``; where it was not built, a sentence that says how to."""
    if (folder / "index.html").is_file():
        app.router.routes.append(
            _Beside("/", StaticFiles(directory=folder, html=True), name="page")
        )
        return

    @app.get("/", include_in_schema=False)
    async def absent() -> Response:
        return Response(_HOW, media_type="text/plain; charset=utf-8")
