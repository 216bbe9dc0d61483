"""Any network of the package timm as a frozen backbone."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from chiasm.errors import ArtifactError, ConfigurationError

DEEPEST = 16  # deeper maps are too coarse to say where a defect is

_SOURCES = ("state_dict", "file", "hf_hub_id", "url")  # of weights, in timm's configuration


class FrozenTimm(nn.Module):
    """A network of timm, frozen, its maps down to stride 16.

    Input ``(N, 3, S, S)`` float in [0, 1]; it is normalised as the network's own configuration
    says. Output one map per stride in ``channels``; maps of the same stride, as transformers give
    them, are joined along their channels. S must be a multiple of the largest stride.

    Args:
        name: of timm, e.g. ``"resnet18"`` or ``"vit_base_patch8_224.dino"``.
        weights_file: safetensors or torch state dict in timm's names; None leaves it to timm,
            which looks into its cache and then asks its hub.
        pretrained: False leaves the weights as initialised, to be loaded from an artifact.

    Raises:
        ConfigurationError: timm is not there or does not import, knows no such network, or the
            network gives no maps.
        ArtifactError: weights that cannot be had, read, or fit another architecture.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, *, weights_file: str | Path | None = None, pretrained: bool = True
    ) -> None:
        super().__init__()
        timm = _timm()
        more: dict[str, Any] = {}
        self.weights = f"timm {name}"
        if pretrained and weights_file is not None:
            given = read_weight_file(weights_file)
            # A network of features leaves the head away and renames some stages, so the file is
            # compared with the whole network; timm then loads it as it does its own weights.
            whole = _created(timm, name)
            head = _head(whole)
            wanted = {n: v for n, v in whole.state_dict().items() if not n.startswith(head)}
            check_fit(given, wanted, file=weights_file, network=f"timm's {name}")
            kept = {n: v for n, v in given.items() if n in wanted}
            more = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": kept}}
            self.weights = f"timm {name}, {in_words(weights_file)}"
        elif pretrained:
            more = {"pretrained": True}
            self.weights = f"timm {name}, its published weights"
        self.network = _created(timm, name, features_only=True, **more)
        info = self.network.feature_info
        self._strides: tuple[int, ...] = tuple(int(s) for s in info.reduction())
        self._widths: tuple[int, ...] = tuple(int(c) for c in info.channels())
        self.channels = _joined_channels(self._strides, self._widths, name)
        said: Mapping[str, Any] = self.network.pretrained_cfg
        # timm warns and goes on with random weights where a name has none.
        if pretrained and not any(said.get(one) for one in _SOURCES):
            raise ArtifactError(
                f"timm has no published weights of {name}; give weights_file, a local file of them."
            )
        self.register_buffer("mean", torch.tensor(said["mean"]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(said["std"]).view(1, -1, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenTimm:
        """Stay in evaluation mode: frozen features must not depend on the batch."""
        return super().train(False)

    def forward(self, images: Tensor, *, deepest: int = DEEPEST) -> dict[int, Tensor]:
        """Compute the maps of every stride up to ``deepest``."""
        maps = self.network((images - self.mean) / self.std)
        found: dict[int, list[Tensor]] = {}
        for stride, width, value in zip(self._strides, self._widths, maps, strict=True):
            if stride in self.channels and stride <= deepest:
                # Some transformers keep channels last: n h w c -> n c h w.
                channels_last = value.shape[1] != width and value.shape[-1] == width
                found.setdefault(stride, []).append(
                    value.permute(0, 3, 1, 2) if channels_last else value
                )
        return {stride: torch.cat(values, dim=1) for stride, values in found.items()}


def _joined_channels(strides: Sequence[int], widths: Sequence[int], name: str) -> dict[int, int]:
    channels: dict[int, int] = {}
    for stride, width in zip(strides, widths, strict=True):
        # Stride 2 shows edges alone and has four times the places of stride 4.
        if 4 <= stride <= DEEPEST:
            channels[stride] = channels.get(stride, 0) + width
    if not channels:
        raise ConfigurationError(
            f"timm's {name} gives maps at strides {', '.join(map(str, strides))}; a backbone needs "
            f"one between 4 and {DEEPEST}."
        )
    return channels


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ConfigurationError(
            "A backbone 'timm:NAME' needs the package timm, which is not installed: "
            "pip install timm."
        ) from error
    except Exception as error:  # a torchvision of another torch raises RuntimeError
        raise ConfigurationError(
            f"The package timm is there but does not import ({error}); install versions of torch, "
            "torchvision and timm that belong together."
        ) from error
    return timm


def _created(timm: Any, name: str, *, pretrained: bool = False, **more: Any) -> nn.Module:
    try:
        if more:
            # Transformers are built for one size of picture unless they are told otherwise;
            # networks that take any size do not know the word.
            with contextlib.suppress(TypeError):
                return timm.create_model(name, pretrained=pretrained, dynamic_img_size=True, **more)
        return timm.create_model(name, pretrained=pretrained, **more)
    except Exception as error:
        if pretrained:
            raise ArtifactError(
                f"timm cannot load published weights of {name} ({error}); give weights_file, a "
                "local file of them."
            ) from error
        raise ConfigurationError(
            f"timm cannot build {name!r} as a network of features ({error}); "
            "timm.list_models() tells what there is."
        ) from error


def _head(network: nn.Module) -> tuple[str, ...]:
    """Prefixes of the classifier's weights, which features do not need."""
    said = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    named = (said,) if isinstance(said, str) else tuple(said)
    return tuple(f"{one}." for one in named)


_WRAPPERS = ("state_dict", "model_state_dict", "base_model", "model")


def read_weight_file(path: str | Path) -> dict[str, Tensor]:
    """Names and tensors of a state dict, from safetensors (by suffix) or a torch file.

    A torch file is read with ``weights_only=True``, so it cannot run code. A state dict inside a
    checkpoint, under ``state_dict``, ``model_state_dict``, ``base_model`` or ``model``, is taken
    out, and the prefix ``module.`` of parallel training is dropped.

    Raises:
        ArtifactError: there is no such file, it is truncated, or it holds no named tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise ArtifactError(f"There is no file of weights at {file}; give the path of one.")
    try:
        if file.suffix == ".safetensors":
            held: object = load_file(file)
        else:
            held = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArtifactError(
            f"{file} is no state dict, or holds more than tensors and plain values, and is not "
            "read, as it might run code; save its state dict alone, best as safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{file} cannot be read as weights; it may be truncated, so fetch it again ({error})."
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(wrapper), Mapping):
            held = held[wrapper]
            break
    if not isinstance(held, Mapping):
        raise ArtifactError(f"{file} holds {type(held).__name__}, not names with tensors.")
    found = {str(k).removeprefix("module."): v for k, v in held.items() if isinstance(v, Tensor)}
    if not found:
        raise ArtifactError(f"{file} holds no named tensors, so it has no weights.")
    return found


def check_fit(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, file: str | Path, network: str
) -> None:
    """Compare names and shapes of given weights with those that a network wants.

    Weights that the network does not want are left alone: heads and decoders stay behind.

    Raises:
        ArtifactError: names what is missing and what has another shape.
    """
    missing = [name for name in wanted if name not in given]
    shapes = [
        f"{name} is {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    said = []
    if missing:
        said.append(f"{len(missing)} of {len(wanted)} tensors are missing: {_some(missing)}")
    if shapes:
        said.append(f"{len(shapes)} have another shape: {_some(shapes)}")
    if said:
        raise ArtifactError(
            f"{file} holds weights of another architecture than {network}: {'; '.join(said)}."
        )


def in_words(path: str | Path) -> str:
    """Name and fingerprint of a file of weights, as it is stated in a contract."""
    with Path(path).open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return f"weights of {Path(path).name} (sha256 {digest[:12]})"


def _some(names: Iterable[str], count: int = 5) -> str:
    every = list(names)
    more = f" and {len(every) - count} more" if len(every) > count else ""
    return ", ".join(every[:count]) + more
