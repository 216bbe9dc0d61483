"""One phase of a trial in its own process: train, evaluate or measure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from chiasm.benchmarks.diagnosis_facts import FACTS
from chiasm.errors import ConfigurationError

MEASURED = 30  # timed samples, after three that are not
EXIT_OUT_OF_MEMORY = 77
LAST_WRITTEN = {"detector": "metrics.json", "classifier": FACTS}


def train(description: dict[str, Any], run: Path) -> None:
    """Train what the trial describes; resume an interrupted run."""
    from chiasm import api

    if not (run / "model" / "contract.json").exists():
        # Methods are compared on the data's own split, whether or not it promises a rate.
        own: dict[str, Any] = {"calibration": "split"} if description["wing"] == "detector" else {}
        api.train(data=description["folder"], out=run, **own | description["settings"])


def evaluate(description: dict[str, Any], run: Path) -> None:
    """Evaluate the model on the test split."""
    from chiasm import api
    from chiasm.benchmarks.diagnosis_facts import write_classifier_facts

    report = Path(description["report"])
    wing = description["wing"]
    if (report / LAST_WRITTEN[wing]).exists():
        return
    # Corruptions take many times as long as the test itself: only the table of them has them.
    options: dict[str, Any] = {"most_corrupted": 0} if wing == "classifier" else {}
    options["device"] = _device(description)
    api.evaluate(run, data=description["folder"], out=report, **options | description["evaluation"])
    if wing == "classifier":
        write_classifier_facts(run, report)


def measure(description: dict[str, Any], run: Path) -> None:
    """Time predictions one by one in a fresh process; write ``speed.json``."""
    from chiasm.benchmarks.speed import Station

    if (run / "speed.json").exists():
        return
    station = Station(
        run, Path(description["folder"]), description["wing"], device=_device(description)
    )
    station.warm_up()
    seconds = [station.predict_next() for _ in range(MEASURED)]
    (run / "speed.json").write_text(json.dumps(station.summary(seconds), indent=1) + "\n")


def _device(description: dict[str, Any]) -> str:
    """Return the device of the trial's run, which evaluates and predicts as well."""
    return str(description.get("settings", {}).get("device", "auto"))


def check_code(description: dict[str, Any]) -> None:
    """Raise ``ConfigurationError`` if the code changed after the trial was started."""
    from chiasm.benchmarks.trial import Trial, fingerprint_of

    trial = Trial(description["wing"], Path(description["folder"]), description["settings"])
    if fingerprint_of(trial) != description["code"]:
        raise ConfigurationError(
            "The code changed while this trial was running, so its result would belong to no "
            "version. Start the table again."
        )


PHASES = {"train": train, "evaluate": evaluate, "measure": measure}


def main() -> None:
    """Run ``PHASE DESCRIPTION.json RUN``; the last line of stderr is the error in a sentence."""
    from chiasm.errors import ChiasmError, OutOfMemoryError

    phase, file, run = sys.argv[1:4]
    description = json.loads(Path(file).read_text())
    try:
        check_code(description)
        PHASES[phase](description, Path(run))
    except (MemoryError, OutOfMemoryError) as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(EXIT_OUT_OF_MEMORY)
    except ChiasmError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(1)
    except RuntimeError as error:
        from chiasm.training.device import is_out_of_memory

        if is_out_of_memory(error):
            sys.exit(EXIT_OUT_OF_MEMORY)
        raise


if __name__ == "__main__":
    main()
