"""The operator's page: static files that the build puts beside this module."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response
from starlette.staticfiles import StaticFiles

PAGE = Path(__file__).parent / "page"
_HOW = (
    "The service runs; its page was not built. Run 'npm ci && npm run build' in the folder web/ of "
    "the sources, then start the service again. What the service can do is listed in "
    "/openapi.json.\n"
)


def add_page(app: FastAPI, folder: Path = PAGE) -> None:
    """Serve the page at ``/``; where it was not built, a sentence that says how to."""
    if (folder / "index.html").is_file():
        app.mount("/", StaticFiles(directory=folder, html=True), name="page")
        return

    @app.get("/", include_in_schema=False)
    async def absent() -> Response:
        return Response(_HOW, media_type="text/plain; charset=utf-8")
