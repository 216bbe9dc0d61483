"""Known defects that train the head beside synthetic anomalies, or choose the threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chiasm.detection.config import DetectionConfig
from chiasm.detection.contract import read_contract
from chiasm.detection.datamodule import DetectionDataModule
from chiasm.detection.prediction.known_defects import choose_by_defects, defective_refs, is_own
from chiasm.detection.predictor import DetectionPredictor
from chiasm.detection.preparation.prepare import PreparationSettings
from chiasm.detection.readers.cache import PreparationCache
from chiasm.detection.readers.opening import open_source
from chiasm.errors import ConfigurationError, DataError
from chiasm.runs.console import say
from chiasm.runs.model_folder import write_contract
from chiasm.samples import PreparedSample


def defects_for_head(
    config: DetectionConfig,
    cache: PreparationCache,
    preparation: PreparationSettings,
    *,
    frozen: bool,
) -> Sequence[PreparedSample]:
    """Return the known defects that train the head, as configured: a draw of those with masks.

    Args:
        config: of the run.
        cache: of prepared parts.
        preparation: of the run's parts.
        frozen: whether the model has a head on frozen features.

    Raises:
        ConfigurationError: the model's head cannot be trained with them.
        DataError: none of the defects has a mask.
    """
    if not config.defects_trained:
        return ()
    assert config.defects is not None
    if not frozen or config.objects == "split":
        raise ConfigurationError(
            "defects_trained shows known defects to the head of a searched model with frozen "
            f"features, such as adnas_light, on frames that are not split; {config.model} with "
            f"objects={config.objects} is none. Leave it out: the defects then choose the "
            "threshold alone."
        )
    own = is_own(config.defects)
    source = open_source(config.data if own else config.defects, lamp=config.lamp)
    refs = [ref for ref in defective_refs(source, own=own) if "mask" in ref.files]
    count = round(config.defects_trained * len(refs))
    if not count:
        raise DataError(
            f"{len(refs)} of the known defects of {source.name} have a mask, and a share of "
            f"{config.defects_trained:g} of them is none: the head learns where defects are. Give "
            "masks, or leave defects_trained out."
        )
    order = np.random.default_rng(config.seed).permutation(len(refs))[:count]
    say(
        f"{count} of {len(refs)} known defects with masks train the head, and do not choose the "
        "threshold."
    )
    return cache.parts(source, [refs[i] for i in sorted(order.tolist())], preparation)


def let_defects_choose(config: DetectionConfig, data: DetectionDataModule) -> None:
    """Write the threshold that the configured known defects choose into the run's contract."""
    assert config.defects is not None
    own = is_own(config.defects)
    model = config.out / "model"
    known = choose_by_defects(
        DetectionPredictor.load(config.out, device=config.device),
        config.data if own else config.defects,
        miss_rate=config.miss_rate,
        own=own,
        left_out=frozenset(part.source for part in data.defects),
    )
    contract = read_contract(model)
    write_contract(model, contract.model_copy(update={"known_defects": known}))
