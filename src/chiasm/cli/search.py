"""``chiasm search``: find a fusion architecture."""

from __future__ import annotations

from chiasm.cli.options import Config, Data, Light, Minutes, Out, Overrides, Seed


def search(
    data: Data,
    out: Out,
    overrides: Overrides = None,
    config: Config = None,
    minutes: Minutes = None,
    seed: Seed = None,
    light: Light = None,
) -> None:
    """Search how to fuse RGB and 3D for a product; writes genotype.json and its drawing."""
    from chiasm.config import RunConfig
    from chiasm.workflows.search import search as run

    run(
        RunConfig.make(
            file=config,
            overrides=overrides or (),
            data=data,
            out=out,
            minutes=minutes,
            seed=seed,
            light=light,
        )
    )
