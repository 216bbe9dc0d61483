"""A cell in a process of its own: learn, judge, measure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from chiasm.benchmarks.diagnosis_facts import FACTS
from chiasm.errors import ConfigurationError

MEASURED = 30  # parts that are timed, after three that are not
EXIT_OUT_OF_MEMORY = 77
LAST_WRITTEN = {"detector": "metrics.json", "classifier": FACTS}


def learn(description: dict[str, Any], run: Path) -> None:
    """Train what the cell describes; a run that was cut off goes on."""
    from chiasm import api as verbs

    if (run / "model" / "contract.json").exists():
        return
    settings = dict(description["settings"])
    verbs.train(verbs.make_config(data=description["folder"], out=run, **settings))


def judge(description: dict[str, Any], run: Path) -> None:
    """Evaluate on the test split."""
    from chiasm import api as verbs
    from chiasm.benchmarks.diagnosis_facts import write_classifier_facts
    from chiasm.diagnosis.evaluate import evaluate as evaluate_diagnosis

    report = Path(description["report"])
    if (report / LAST_WRITTEN[description["wing"]]).exists():
        return
    if description["wing"] == "classifier":
        # Corruptions take many times as long as the test itself: where they were asked for.
        asked = {"most_corrupted": 0} | description["evaluation"]
        evaluate_diagnosis(run, data=description["folder"], out=report, **asked)
        write_classifier_facts(run, report)
    else:
        verbs.evaluate(run, data=description["folder"], out=report, **description["evaluation"])


def measure(description: dict[str, Any], run: Path) -> None:
    """Time a fresh process that judges one part after the other; writes ``speed.json``."""
    from chiasm.benchmarks.speed import Station

    if (run / "speed.json").exists():
        return
    station = Station(run, Path(description["folder"]), description["wing"])
    station.warm_up()
    seconds = [station.once() for _ in range(MEASURED)]
    (run / "speed.json").write_text(json.dumps(station.summary(seconds), indent=1) + "\n")


def insist_on_code(description: dict[str, Any]) -> None:
    """Refuse to go on with code that was changed since the cell was begun, and its name given."""
    from chiasm.benchmarks.trial import Trial, fingerprint_of

    cell = Trial(description["wing"], Path(description["folder"]), description["settings"])
    if fingerprint_of(cell) != description["code"]:
        raise ConfigurationError(
            "The code was changed while this cell was run, so that nobody could tell which made "
            "it. Start the table again."
        )


PHASES = {"learn": learn, "judge": judge, "measure": measure}


def main() -> None:
    """``PHASE DESCRIPTION.json RUN``; the last line of stderr is the error in a sentence."""
    from chiasm.errors import ChiasmError

    phase, file, run = sys.argv[1:4]
    description = json.loads(Path(file).read_text())
    try:
        insist_on_code(description)
        PHASES[phase](description, Path(run))
    except MemoryError:
        sys.exit(EXIT_OUT_OF_MEMORY)
    except ChiasmError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(1)
    except RuntimeError as error:
        # What torch says where an allocation fails.
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            sys.exit(EXIT_OUT_OF_MEMORY)
        raise


if __name__ == "__main__":
    main()
