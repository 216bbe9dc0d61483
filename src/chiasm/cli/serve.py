"""``chiasm serve``: serve exported models over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer


def serve(
    models: Annotated[
        list[str], typer.Argument(help="Folders written by 'chiasm export', or NAME=FOLDER.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    log: Annotated[
        str,
        typer.Option(
            envvar="CHIASM_LOG",
            help="Log of all verdicts: an SQLite file, or postgresql://USER@HOST/DATABASE, which "
            "several services share.",
        ),
    ] = "verdicts.sqlite",
    spool: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps verdicts while the database is away. Default: LOG.spool beside "
            "a file, verdicts.spool for a server."
        ),
    ] = None,
    station: Annotated[
        str, typer.Option(help="Name of the place whose parts this service judges.")
    ] = "",
    replica: Annotated[
        str,
        typer.Option(
            help="Name of this service among those that share the log. Default: host and port."
        ),
    ] = "",
    keep_days: Annotated[
        float, typer.Option(help="Days that the log keeps verdicts; 0 keeps all.")
    ] = 90.0,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File of API keys, one a line; without it no key is needed.")
    ] = None,
    admin_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File of API keys that may change thresholds, too; without it nobody may by HTTP."
        ),
    ] = None,
    host_names: Annotated[
        str,
        typer.Option(
            help="Accepted host names, separated by commas. Default: any; only localhost if the "
            "service listens there and needs no key."
        ),
    ] = "",
    queue: Annotated[int, typer.Option(help="Largest number of waiting requests.")] = 64,
    max_mb: Annotated[float, typer.Option(help="Largest size of a request, in megabytes.")] = 64.0,
    max_megapixels: Annotated[
        float, typer.Option(help="Largest size of an image, in megapixels.")
    ] = 6.0,
    timeout: Annotated[
        float, typer.Option(help="Seconds to receive a body, and again to predict.")
    ] = 10.0,
    threads: Annotated[
        int, typer.Option(help="Threads of a model, and requests predicted at a time.")
    ] = 2,
    cache_mb: Annotated[
        float, typer.Option(help="Memory for pictures of the newest verdicts, in megabytes.")
    ] = 64.0,
    watch: Annotated[
        float, typer.Option(help="Seconds between checks of the folders; 0: never.")
    ] = 2.0,
    outlets: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of the systems that get the verdicts as well: MQTT, Modbus, ..."
        ),
    ] = None,
    severity: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of the levels of severity of recordings; default: levels of no "
            "standard, to be set by you."
        ),
    ] = None,
) -> None:
    """Serve exported models over HTTP, with a page for operators at the same address.

    Each product of a model of several is served under its own name, and all of them under that of
    the folder, where a part says of which product it is (field product), or is told by its looks.
    """
    import logging
    import socket

    from chiasm.runtime import load
    from chiasm.service.app import build
    from chiasm.service.model_pool import Runtime, named_folders
    from chiasm.service.server import CONNECTIONS, address_of, run
    from chiasm.service.settings import ServiceSettings, host_names_of, read_keys

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    keys = read_keys(api_key_file)
    settings = ServiceSettings(
        log=log,
        spool=spool,
        station=station,
        replica=replica or f"{socket.gethostname()}:{port}"[-64:],
        keep_days=keep_days,
        api_keys=keys,
        admin_keys=read_keys(admin_key_file),
        host_names=host_names_of(host_names, host=host, keys=keys),
        queue=queue,
        max_mb=max_mb,
        max_megapixels=max_megapixels,
        timeout=timeout,
        threads=threads,
        cache_mb=cache_mb,
        watch=watch,
        outlets=outlets,
        severity=severity,
    )

    def opened(folder: Path) -> Runtime:
        # The folder of one product, see ``ModelPool``.
        return cast(Runtime, load(folder, threads=threads))

    app = build(named_folders(models), settings, opened)
    typer.echo(f"chiasm: open {address_of(host, port)}", err=True)
    # A request that the queue refuses gets an answer, which needs a connection.
    connections = max(CONNECTIONS, 4 * queue)
    run(app, host=host, port=port, seconds=timeout, connections=connections)
