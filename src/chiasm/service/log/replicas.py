"""The services that share a log: who they are, which models they serve, and how they differ."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, select

from chiasm.service.log.changes import upsert
from chiasm.service.log.tables import replicas

SILENT_AFTER = 20.0
"""Seconds without a report after which a service counts as silent."""

LISTED = 86400.0
"""Seconds for which a silent service is still listed."""

_CLOCK = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of a service.

    Attributes:
        model_hash: SHA-256 of the graph.
        calibration: digest of the scores, the rate and the confidence that decide.
        threshold: above which a score is an alarm, or None.
    """

    model_hash: str
    calibration: str
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Replica:
    """A service that writes into the log, as it last reported.

    Attributes:
        name: host and port; no two services that run have the same.
        station: where its parts come from; several services may serve one.
        started: seconds since 1970.
        seen: when it last reported, by the database's clock.
        clock_offset: seconds by which its clock is ahead of the database's.
        chiasm: version of the program.
        keep_days: age at which it deletes verdicts; 0 keeps all.
        waiting: verdicts on its disk that are not in the database yet.
        models: by name.
    """

    name: str
    station: str
    started: float
    seen: float
    clock_offset: float
    chiasm: str
    keep_days: float
    waiting: int
    models: Mapping[str, ServedModel]

    def is_silent(self, now: float) -> bool:
        """Tell whether it has not reported for a while; ``now`` by the database's clock."""
        return now - self.seen > SILENT_AFTER


def report(connection: Connection, replica: Replica) -> None:
    """Write what a service says of itself over its last report."""
    models = {name: asdict(model) for name, model in replica.models.items()}
    values = {
        column.name: getattr(replica, column.name)
        for column in replicas.c
        if column.name != "models"
    }
    values["models"] = json.dumps(models)
    statement = upsert(connection.dialect.name, replicas).values(values)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[replicas.c.name], set_=values)
    )


def retract(connection: Connection, name: str, started: float) -> None:
    """Delete the report of a service that ends in order, not that of its successor."""
    own = (replicas.c.name == name) & (replicas.c.started == started)
    connection.execute(delete(replicas).where(own))


def read_replicas(connection: Connection) -> list[Replica]:
    """Return the services that share the log, by station and name."""
    found = []
    for row in connection.execute(select(replicas)):
        models = {name: ServedModel(**model) for name, model in json.loads(row.models).items()}
        found.append(Replica(**{**row._mapping, "models": models}))
    return sorted(found, key=lambda replica: (replica.station, replica.name))


def differences(found: Sequence[Replica], now: float) -> list[str]:
    """Say in sentences what an operator should mend; nothing if all services are alike.

    Args:
        found: the services that share a log.
        now: by the database's clock.
    """
    alive = [replica for replica in found if not replica.is_silent(now)]
    sentences = []
    for replica in found:
        if now - replica.seen > LISTED:
            continue
        if replica.is_silent(now):
            sentences.append(
                f"{_named(replica)} has not reported for {_duration(now - replica.seen)}: it is "
                "stopped, or does not reach the database. It is listed for a day."
            )
        elif abs(replica.clock_offset) > _CLOCK:
            side = "ahead of" if replica.clock_offset > 0 else "behind"
            sentences.append(
                f"The clock of {_named(replica)} is {_duration(abs(replica.clock_offset))} {side} "
                "the database's, and so are the times of its verdicts. Set it (NTP)."
            )
    for name in sorted({name for replica in alive for name in replica.models}):
        sentences += _model_differences(name, [r for r in alive if name in r.models])
    kept = _groups((f"{replica.keep_days:g}", replica) for replica in alive)
    if len(kept) > 1:
        sentences.append(
            f"Services keep verdicts for different times: {_listed(kept, ' days')}. The shortest "
            "holds for all; start them with the same --keep-days."
        )
    return sentences


def _model_differences(name: str, serving: Sequence[Replica]) -> list[str]:
    versions = _groups((r.models[name].model_hash[:12], r) for r in serving)
    if len(versions) > 1:
        return [
            f"{name} is served in {len(versions)} versions: {_listed(versions)}. A part may get "
            "another verdict at another service. Give all of them the same export, or serve what "
            "is meant to differ under other names (NAME=FOLDER)."
        ]
    calibrations = _groups((r.models[name].calibration, r) for r in serving)
    if len(calibrations) > 1:
        thresholds = {
            key: serving_key[0].models[name].threshold for key, serving_key in calibrations.items()
        }
        named = {
            f"threshold {_figure(thresholds[key])} ({key})": group
            for key, group in calibrations.items()
        }
        return [
            f"{name} is served with {len(named)} calibrations: {_listed(named)}. Let services "
            "share the model's folder, or copy its deployment.json, so that 'chiasm recalibrate' "
            "reaches all; serve what is meant to differ under other names (NAME=FOLDER)."
        ]
    return []


def _groups(pairs: Iterable[tuple[str, Replica]]) -> dict[str, list[Replica]]:
    groups: dict[str, list[Replica]] = defaultdict(list)
    for key, replica in pairs:
        groups[key].append(replica)
    return dict(sorted(groups.items()))


def _listed(groups: Mapping[str, Sequence[Replica]], unit: str = "") -> str:
    return "; ".join(
        f"{key}{unit} at {', '.join(map(_named, group))}" for key, group in groups.items()
    )


def _named(replica: Replica) -> str:
    return f"{replica.station} ({replica.name})" if replica.station else replica.name


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
