"""A trained classifier as one graph: a recording in, logits by modality out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from chiasm.classifiers.classifier import Classifier, FittedClassifier
from chiasm.classifiers.mad import Mad
from chiasm.errors import ConfigurationError
from chiasm.samples import DischargeBatch

JOINT = "logits"


class ClassifierGraph(nn.Module):
    """What is exported: logits of all modalities together and of each alone.

    One graph serves a missing modality, too: it is fed with zeros, and only the outputs that do
    not depend on it are believed.

    Args:
        network: in evaluation mode.
        modalities: that it looks at, in the order of the graph's inputs.
    """

    def __init__(self, network: Classifier, *, modalities: Sequence[str]) -> None:
        super().__init__()
        self.network = network.eval()
        self.modalities = tuple(modalities)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return self.modalities

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        alone = tuple(f"{JOINT}_{m}" for m in self.modalities)
        return (JOINT, *alone) if len(alone) > 1 else (JOINT,)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Logits ``(1, K)`` by ``outputs``, of one window.

        Args:
            tensors: picture ``(1, 3, S, S)`` and window of the series ``(1, C, L)``, those of
                them that the network looks at.
        """
        given = dict(zip(self.modalities, tensors))
        if len(given) == 1:
            return (self._logits(**given),)
        if isinstance(self.network, Mad):
            return self._with_shared_tokens(self.network, given)
        return (self._logits(**given), *(self._logits(**{m: given[m]}) for m in self.modalities))

    def _logits(self, **given: Tensor) -> Tensor:
        batch = DischargeBatch(given.get("image"), given.get("series"))
        logits: Tensor = self.network(batch).logits
        return logits

    def _with_shared_tokens(self, network: Mad, given: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """As the network, but tokens and flows of a modality are computed once for all looks."""
        tokens = {m: network.flows[m](network.embeddings[m](x))[0] for m, x in given.items()}
        looks = [tokens, *({m: tokens[m]} for m in self.modalities)]
        return tuple(network.decide(look) for look in looks)


def classifier_graph(network: Classifier, *, modalities: Sequence[str]) -> ClassifierGraph:
    """The graph of a trained classifier.

    Raises:
        ConfigurationError: the method has no such graph.
    """
    if isinstance(network, FittedClassifier):
        raise ConfigurationError(
            f"{type(network).__name__} cannot be exported: what it fitted is a model of another "
            "library and no graph of tensors. Export mad_small or another network."
        )
    return ClassifierGraph(network, modalities=modalities)


def example_inputs(network: Classifier, modalities: Sequence[str]) -> list[Tensor]:
    """Zeros in the shapes of a usual recording."""
    batch = network.example_batch(1)
    found = [batch.image if name == "image" else batch.series for name in modalities]
    return [tensor for tensor in found if tensor is not None]
