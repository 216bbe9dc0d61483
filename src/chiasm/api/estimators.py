"""Both wings as estimators of scikit-learn: ``fit``, ``predict`` and their kin on arrays.

Parts and recordings are pairs of two sensors, so that ``X`` is a sequence of them and no table of
numbers. What is fitted is written to a folder first: a run like any other.
"""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin, OutlierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from chiasm.api.loading import load
from chiasm.api.prediction import predict
from chiasm.api.training import train
from chiasm.errors import DataError
from chiasm.runs.model_folder import model_folder

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_ONE_GROUP_EACH = (
    "No groups were given, so that each recording counts as a session of its own. Recordings of "
    "one session are nearly copies of each other: give fit(X, y, groups=sessions), or scores are "
    "those of copies."
)


class _RunEstimator(BaseEstimator):
    """What both estimators share: a run in a folder, and its model as bytes that can be pickled."""

    model: str
    out: Path | str | None
    settings: Mapping[str, Any] | None

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # pairs of two sensors
        tags.input_tags.allow_nan = True  # missing 3D points
        tags.no_validation = True  # the readers check, and say how to mend
        tags.non_deterministic = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return {name: x for name, x in super().__getstate__().items() if name != "_opened"}

    @property
    def model_(self) -> Any:  # a Model of the estimator's wing
        """The trained model, a function of one part or one recording."""
        check_is_fitted(self, "files_")
        if not hasattr(self, "_opened"):
            with tempfile.TemporaryDirectory(prefix="chiasm-") as folder:
                for name, content in self.files_.items():
                    (Path(folder) / name).write_bytes(content)
                self._opened = load(folder)
        return self._opened

    def _train(self, data: Path, out: Path, **settings: Any) -> None:
        """Train on written data and keep the model's files."""
        self.result_ = train(
            data=data, out=out, model=self.model, **dict(self.settings or {}) | settings
        )
        place = model_folder(out)
        self.files_ = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
        self.__dict__.pop("_opened", None)

    @contextmanager
    def _folders(self) -> Iterator[tuple[Path, Path]]:
        """Yield the folder of the data and that of the run."""
        with tempfile.TemporaryDirectory(prefix="chiasm-") as folder:
            yield (
                Path(folder) / "data",
                Path(folder) / "run" if self.out is None else Path(self.out),
            )

    def _judged(self, X: Sequence[Any]) -> list[Any]:
        """Return verdicts or diagnoses of all; ``DataError`` names what cannot be judged."""
        said: list[Any] = predict(self.model_, _checked(X), **self._options())
        failed = [f"Number {n}: {one.error}" for n, one in enumerate(said) if one.error]
        if failed:
            raise DataError(f"{len(failed)} of {len(said)} cannot be judged. {failed[0]}")
        return said

    def _options(self) -> dict[str, Any]:
        return {}


class DefectDetector(OutlierMixin, _RunEstimator):
    """A detector of defects, trained with good parts, after scikit-learn's outlier detectors.

    Args:
        model: registered detector; ``chiasm models`` lists them.
        out: folder of the run; None keeps no folder, the model lives in the estimator.
        settings: further settings of the run by name, see ``chiasm settings MODEL``.

    Attributes:
        files_: files of the trained model by name; a folder with them is a model for ``load``.
        result_: of ``chiasm.train``.
        offset_: ``score_samples`` below it is an alarm; NaN where the model decides nothing.

    Examples:
        >>> detector = DefectDetector("pixel_gaussian", settings={"image_size": 64})
        >>> detector.fit([(rgb, xyz) for rgb, xyz in good])  # doctest: +SKIP
        >>> detector.predict([(rgb, xyz)])  # doctest: +SKIP
        array([1])
    """

    def __init__(
        self,
        model: str = "adnas_light",
        *,
        out: Path | str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.out = out
        self.settings = settings

    def fit(self, X: Sequence[Any], y: ArrayLike | None = None) -> Self:
        """Train on good parts.

        Args:
            X: parts: pairs ``(rgb, xyz)`` of arrays, or ``rgb`` or ``xyz`` alone as
                ``(rgb, None)`` and ``(None, xyz)``. RGB is ``(H, W, 3)`` uint8, or floats in
                [0, 1] that are kept in 8 bits; points are ``(H, W, 3)`` metres in the camera
                frame, 0 or NaN where missing.
            y: 1 of good parts, -1 of known defects, which choose the threshold (``defects``);
                None says that all are good.

        Raises:
            DataError: an array has another shape or type, or no part is good.
        """
        parts = [_pair(part, number) for number, part in enumerate(_checked(X))]
        good = _good(y, len(parts))
        with self._folders() as (data, out):
            settings: dict[str, Any] = {}
            for number, (part, is_good) in enumerate(zip(parts, good, strict=True)):
                folder = "parts/train/good" if is_good else "defects"
                _write_part(data / folder, number, *part)
            if not good.all():
                settings["defects"] = data / "defects"
            self._train(data / "parts", out, **settings)
        self.offset_ = -self._threshold()
        return self

    def score_samples(self, X: Sequence[Any]) -> NDArray[np.float64]:
        """Return the negative anomaly score of each part: the larger, the more normal."""
        return np.array([-verdict.score for verdict in self._judged(X)])

    def decision_function(self, X: Sequence[Any]) -> NDArray[np.float64]:
        """Return ``score_samples(X) - offset_``: negative is an alarm."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Sequence[Any]) -> NDArray[np.int64]:
        """Return 1 of each good part, -1 of each defective one.

        Raises:
            DataError: the model decides nothing, because it was calibrated with too few parts.
        """
        decided = [verdict.defective for verdict in self._judged(X)]
        if None in decided:
            raise DataError(
                "The model decides nothing: too few good parts calibrated it for its false-alarm "
                "rate. Use score_samples, give more good parts, or raise false_alarm_rate."
            )
        return np.where(np.array(decided, bool), -1, 1)

    def _threshold(self) -> float:
        threshold = self.model_.contract.alarm_rule.threshold
        return float("nan") if threshold is None else float(threshold)

    def _options(self) -> dict[str, Any]:
        return {"keep_maps": False}


class DischargeClassifier(ClassifierMixin, _RunEstimator):
    """A classifier of recordings of partial discharge, after scikit-learn's classifiers.

    Args:
        model: registered classifier; ``chiasm models`` lists them.
        out: folder of the run; None keeps no folder, the model lives in the estimator.
        frequency: of the mains, Hz.
        samples_per_cycle: values of a series in a mains cycle.
        settings: further settings of the run by name, see ``chiasm settings MODEL``.

    Attributes:
        classes_: the labels, sorted.
        files_: files of the trained model by name; a folder with them is a model for ``load``.
        result_: of ``chiasm.train``.
    """

    def __init__(
        self,
        model: str = "mad_small",
        *,
        out: Path | str | None = None,
        frequency: float = 60.0,
        samples_per_cycle: int = 128,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.out = out
        self.frequency = frequency
        self.samples_per_cycle = samples_per_cycle
        self.settings = settings

    def fit(self, X: Sequence[Any], y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Train on labelled recordings.

        Args:
            X: recordings: series ``(T,)`` or ``(C, T)``, or pairs ``(image, series)`` in which one
                may be None. An image is ``(H, W, 3)``, uint8 or floats in [0, 1].
            y: label of each.
            groups: session of each: recordings of one session are nearly copies, and are not
                divided between training and validation.

        Raises:
            DataError: an array has another shape or type, or the numbers of rows differ.
        """
        recordings = [_recording(one, number) for number, one in enumerate(_checked(X))]
        labels = np.asarray(y)
        sessions = np.arange(len(labels)) if groups is None else np.asarray(groups)
        if labels.ndim != 1 or not len(labels) == len(sessions) == len(recordings):
            raise DataError(
                f"There are {len(recordings)} recordings, labels {labels.shape} and groups "
                f"{sessions.shape}; give one label and one group for each."
            )
        if groups is None:
            import warnings

            warnings.warn(_ONE_GROUP_EACH, UserWarning, stacklevel=2)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        with self._folders() as (data, out):
            rows = [
                {
                    **_write_recording(data, number, *recordings[number]),
                    "label": str(numbers[number]),
                    "kind": f"class {numbers[number]:04d}",
                    "session": str(sessions[number]),
                    "frequency": str(self.frequency),
                    "samples_per_cycle": str(self.samples_per_cycle),
                }
                for number in range(len(recordings))
            ]
            columns = list(dict.fromkeys(name for row in rows for name in row))
            with (data / "recordings.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(rows)
            present = [m for m in ("image", "series") if m in columns]
            settings = {"modalities": tuple(present), "shares": (0.8, 0.2, 0.0)}
            self._train(data / "recordings.csv", out, **settings | dict(self.settings or {}))
        return self

    def predict_proba(self, X: Sequence[Any]) -> NDArray[np.float64]:
        """Return the calibrated probability of each class, ``(N, K)``, columns as ``classes_``."""
        check_is_fitted(self, "files_")
        names = [f"class {number:04d}" for number in range(len(self.classes_))]
        return np.array([[d.probabilities[n] for n in names] for d in self._diagnoses(X)])

    def predict(self, X: Sequence[Any]) -> NDArray[Any]:
        """Return the most probable class of each; ``is_unknown`` says which are like none."""
        columns = self.predict_proba(X).argmax(axis=1)
        chosen: NDArray[Any] = self.classes_[columns]
        return chosen

    def is_unknown(self, X: Sequence[Any]) -> NDArray[np.bool_]:
        """Return whether the model calls each recording unknown."""
        return np.array([d.kind == "unknown" for d in self._diagnoses(X)])

    def _diagnoses(self, X: Sequence[Any]) -> Any:
        recordings = [_recording(one, number) for number, one in enumerate(_checked(X))]
        facts = {"frequency": self.frequency, "samples_per_cycle": self.samples_per_cycle}
        return self._judged([{"image": i, "series": s, **facts} for i, s in recordings])


def _checked(X: Sequence[Any]) -> Sequence[Any]:
    """Return the samples; ``DataError`` where there are none."""
    if issparse(X):
        raise TypeError(
            "X is a sparse matrix, which is not supported: give a sequence of dense arrays."
        )
    if not hasattr(X, "__len__") or not len(X):
        raise DataError("X is empty; give a sequence of parts or recordings.")
    return X


def _good(y: ArrayLike | None, count: int) -> NDArray[np.bool_]:
    """Return which parts are good by scikit-learn's labels of outliers."""
    labels = np.ones(count) if y is None else np.asarray(y)
    if labels.shape != (count,) or not np.isin(labels, (1, -1)).all():
        found = dict(Counter(labels.ravel().tolist()).most_common(3))
        raise DataError(
            f"y has shape {labels.shape} and values {found} for {count} parts; give 1 of each good "
            "part and -1 of each defective one, or no y where all are good."
        )
    if not (labels == 1).any():
        raise DataError("No part is good (1 in y); a detector is trained with good parts.")
    return labels == 1


def _pair(part: Any, number: int) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Return RGB and points of a part as arrays."""
    if not isinstance(part, tuple) or len(part) != 2 or all(one is None for one in part):
        raise DataError(
            f"Part {number} is no pair of arrays (rgb, xyz); give (rgb, None) or (None, xyz) where "
            "there is one sensor. To train on files, use chiasm.train."
        )
    rgb, xyz = (None if one is None else np.asarray(one) for one in part)
    for name, one in (("rgb", rgb), ("xyz", xyz)):
        if one is not None and (one.ndim != 3 or one.shape[2] != 3 or one.dtype.kind not in "uf"):
            raise DataError(
                f"Part {number} has {name} of shape {one.shape} and type {one.dtype}; it must be "
                "(H, W, 3), rgb uint8 or floats in [0, 1], xyz floats in metres."
            )
    if rgb is not None:
        _check_colours(rgb, f"Part {number} has rgb")
    if xyz is not None and xyz.dtype.kind != "f":
        raise DataError(f"Part {number} has xyz of {xyz.dtype}; give floats in metres.")
    return rgb, xyz


def _check_colours(image: NDArray[Any], whose: str) -> None:
    """Raise ``DataError`` unless colours are uint8, or floats in [0, 1]."""
    if image.dtype == np.uint8:
        return
    within = image.dtype.kind == "f" and np.isfinite(image).all()
    if not (within and 0 <= image.min() <= image.max() <= 1):
        raise DataError(
            f"{whose} of {image.dtype} with values outside of [0, 1]; give uint8, or divide by "
            "the largest count."
        )


def _write_part(
    folder: Path, number: int, rgb: NDArray[Any] | None, xyz: NDArray[Any] | None
) -> None:
    from chiasm.files.images import write_rgb, write_xyz

    if rgb is not None:
        scale = 255.0 if rgb.dtype == np.uint8 else 1.0
        write_rgb(folder / f"rgb/{number:06d}.png", np.asarray(rgb / scale, np.float32))
    if xyz is not None:
        write_xyz(folder / f"xyz/{number:06d}.tiff", np.nan_to_num(xyz, nan=0.0))


def _recording(one: Any, number: int) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Return image and series of a recording as arrays."""
    image, series = one if isinstance(one, tuple) and len(one) == 2 else (None, one)
    image = None if image is None else np.asarray(image)
    series = None if series is None else np.atleast_2d(np.asarray(series))
    if series is not None and (series.ndim != 2 or series.dtype.kind not in "iuf"):
        raise DataError(
            f"Recording {number} has a series of shape {series.shape} and type {series.dtype}; it "
            "must be numbers, (T,) or (C, T)."
        )
    if image is not None and (image.ndim != 3 or image.shape[2] != 3):
        raise DataError(
            f"Recording {number} has an image of shape {image.shape}; it must be (H, W, 3)."
        )
    if image is not None:
        _check_colours(image, f"Recording {number} has an image")
    if image is None and series is None:
        raise DataError(f"Recording {number} has neither an image nor a series.")
    return image, series


def _write_recording(
    folder: Path, number: int, image: NDArray[Any] | None, series: NDArray[Any] | None
) -> dict[str, str]:
    """Write a recording's files; return their columns of the table."""
    from chiasm.files.images import write_rgb

    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    if image is not None:
        files["image"] = f"{number:06d}.png"
        scale = 255.0 if image.dtype == np.uint8 else 1.0
        write_rgb(folder / files["image"], np.asarray(image / scale, np.float32))
    if series is not None:
        files["series"] = f"{number:06d}.npy"
        np.save(folder / files["series"], series)
    return files
