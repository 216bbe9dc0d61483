"""The search as a job of its own: settings in, a run's folder with a genotype out."""

from __future__ import annotations

from chiasm.discharge_config import DiagnosisConfig
from chiasm.errors import ConfigurationError
from chiasm.fusion.genotype import Genotype
from chiasm.workflows.learn_diagnosis import open_folder
from chiasm.workflows.recording_bench import open_bench
from chiasm.workflows.search_classes import has_fusion, search_classes


def search_recordings(config: DiagnosisConfig) -> Genotype:
    """Search the fusion of a model in a run's folder, in which training may go on from it.

    Raises ``ConfigurationError`` for a model that has no fusion to choose, or where the folder
    holds a run with other settings.
    """
    if not has_fusion(config.model):
        raise ConfigurationError(
            f"{config.model} has no fusion to search; fused_small fuses the features of mad_small."
        )
    open_folder(config)
    return search_classes(open_bench(config))
