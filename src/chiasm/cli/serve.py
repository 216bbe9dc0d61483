"""``chiasm serve``: exported models behind an address."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer


def serve(
    models: Annotated[
        list[str], typer.Argument(help="Folders that 'chiasm export' wrote, or NAME=FOLDER.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    log: Annotated[Path, typer.Option(help="Log of all verdicts.")] = Path("verdicts.sqlite"),
    keep_days: Annotated[float, typer.Option(help="Days that it reaches back; 0 is all.")] = 90.0,
    api_key_file: Annotated[
        Path | None, typer.Option(help="Keys, one a line; without it anyone may ask.")
    ] = None,
    host_names: Annotated[
        str,
        typer.Option(
            help="By which the service may be called, with commas between. Any unless told; "
            "localhost alone where it listens there and needs no key."
        ),
    ] = "",
    queue: Annotated[int, typer.Option(help="Requests that may wait.")] = 64,
    max_mb: Annotated[float, typer.Option(help="Of a request.")] = 64.0,
    max_megapixels: Annotated[float, typer.Option(help="Of an image.")] = 6.0,
    timeout: Annotated[float, typer.Option(help="Seconds for body, and for verdict.")] = 10.0,
    threads: Annotated[int, typer.Option(help="Of a model, and requests judged at a time.")] = 2,
    cache_mb: Annotated[float, typer.Option(help="Of pictures of the newest verdicts.")] = 64.0,
    watch: Annotated[float, typer.Option(help="Seconds between looks at folders; 0: none.")] = 2.0,
) -> None:
    """Judge what is sent by HTTP; the page is at the address itself."""
    import logging

    from chiasm.runtime import load
    from chiasm.service.app import build
    from chiasm.service.model_pool import named_folders
    from chiasm.service.server import CONNECTIONS, address_of, run
    from chiasm.service.settings import ServiceSettings, host_names_of, read_keys

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    keys = read_keys(api_key_file)
    settings = ServiceSettings(
        log=log,
        keep_days=keep_days,
        api_keys=keys,
        host_names=host_names_of(host_names, host=host, keys=keys),
        queue=queue,
        max_mb=max_mb,
        max_megapixels=max_megapixels,
        timeout=timeout,
        threads=threads,
        cache_mb=cache_mb,
        watch=watch,
    )
    app = build(named_folders(models), settings, partial(load, threads=threads))
    typer.echo(f"chiasm: open {address_of(host, port)}", err=True)
    # Whoever is too many for the queue is told so in a sentence, which needs a connection.
    connections = max(CONNECTIONS, 4 * queue)
    run(app, host=host, port=port, seconds=timeout, connections=connections)
