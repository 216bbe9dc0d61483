"""The models of a service by name, reloaded when their folders change."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from chiasm.detection.products.models import PRODUCTS, Product, ProductModels, read_products
from chiasm.errors import ArtifactError, ChiasmError, ConfigurationError
from chiasm.runtime.deployment import DEPLOYMENT, Deployment
from chiasm.service.log.replicas import ServedModel
from chiasm.service.refusals import Refusal, several_products, shortened, unknown_model

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAMING = "Name it in the field product, or send the part to /v1/models/PRODUCT/predict."


def named_folders(arguments: list[str]) -> dict[str, Path]:
    """Read ``FOLDER`` or ``NAME=FOLDER``; the name of the model is NAME or the folder's name.

    Raises ``ConfigurationError`` for a name that occurs twice or cannot stand in an address.

    Example:
        >>> named_folders(["runs/gland", "left=runs/export"])
        {'gland': PosixPath('runs/gland'), 'left': PosixPath('runs/export')}
    """
    folders: dict[str, Path] = {}
    for argument in arguments:
        name, sign, path = argument.partition("=")
        folder = Path(path if sign else argument)
        name = name if sign else folder.absolute().name
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} cannot be a model's name: at most 64 letters, digits, '.', '_' and '-' "
                "are allowed. Choose another one with NAME=FOLDER."
            )
        if name in folders:
            raise ConfigurationError(
                f"{folders[name]} and {folder} would both be called {name!r}; give one of them "
                "another name with NAME=FOLDER."
            )
        folders[name] = folder
    return folders


def with_products(folders: Mapping[str, Path]) -> dict[str, Path]:
    """Replace folders of several products by those of each, under the products' names.

    A client says by the address of which product a part is.

    Raises ``ConfigurationError`` for a name that occurs twice or cannot stand in an address.
    """
    found: list[str] = []
    for name, folder in folders.items():
        products = read_products(folder)
        if products:
            found += [f"{product.name}={folder / product.folder}" for product in products]
        else:
            found.append(f"{name}={folder}")
    return named_folders(found)


class ModelPool:
    """The models of a service.

    A folder of several products is served under the name of each, and under its own, where a part
    says of which product it is or is told by its looks.

    Args:
        folders: name to folder.
        load: folder of one product's model to runtime.

    Raises ``ChiasmError`` if a folder is broken.
    """

    def __init__(self, folders: Mapping[str, Path], load: Callable[[Path], Runtime]) -> None:
        alone = with_products(folders)
        self._models = {name: HostedModel(name, folder, load) for name, folder in alone.items()}
        self._products: dict[str, HostedProducts] = {}
        for name, folder in folders.items():
            products = read_products(folder)
            if not products:
                continue
            if name in self._models:
                logger.warning(
                    "Parts of no named product have no address, because %s is the name of a model "
                    "already; give the folder another one: NAME=%s.",
                    *(name, folder),
                )
                continue
            members = {product.name: self._models[product.name] for product in products}
            self._products[name] = HostedProducts(name, folder, members, products)
        self._closed = threading.Event()
        self._watcher: threading.Thread | None = None

    def __getitem__(self, name: str) -> HostedModel:
        """Return a model of one product."""
        if name in self._products:
            raise several_products(name, list(self._products[name].members))
        if name not in self._models:
            raise unknown_model(name, [*self._models, *self._products])
        return self._models[name]

    def judge(self, name: str) -> HostedModel | HostedProducts:
        """Return what judges the parts that are sent to a name."""
        return self._products.get(name) or self[name]

    @property
    def products(self) -> tuple[HostedProducts, ...]:
        """Those of several products."""
        return tuple(self._products.values())

    def __iter__(self) -> Iterator[HostedModel]:
        return iter(self._models.values())

    def served(self) -> dict[str, ServedModel]:
        """Return what is served under each name, for the reports of this service."""
        return {model.name: model.served for model in self}

    def reload_changed(self) -> None:
        """Reload changed folders; a model whose folder is broken keeps its old version."""
        for model in (*self, *self.products):
            if not model.changed():
                continue
            try:
                model.reload()
            except ChiasmError as error:
                logger.warning("Model %s keeps its old version: %s", model.name, error)
            except Exception:
                logger.exception("Model %s keeps its old version.", model.name)
            else:
                logger.info("Model %s was reloaded from %s.", model.name, model.folder)

    def watch(self, every: float) -> None:
        """Check the folders every ``every`` seconds, in a thread that ends with ``close``."""

        def check() -> None:
            while not self._closed.wait(every):
                self.reload_changed()

        self._watcher = threading.Thread(target=check, name="model-watch", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """End the watch, and close every model after its last user."""
        self._closed.set()
        if self._watcher is not None:
            self._watcher.join()
        for model in self:
            model.close()


class Runtime(Protocol):
    """The part of ``chiasm.runtime``'s models that a service uses; threads may share a model."""

    @property
    def wing(self) -> str:
        """``"detector"`` or ``"classifier"``."""
        ...

    @property
    def model_hash(self) -> str:
        """SHA-256 of the graph."""
        ...

    @property
    def deployment(self) -> Deployment:
        """The description in the model's folder."""
        ...

    def prepared(self, *arrays: Any, **settings: Any) -> Callable[[], Any]:
        """Prepare a part or a recording; return the call that predicts, in the caller's thread."""
        ...

    def warm_up(self, *, streaming: bool = False) -> None:
        """Compile and run the graph once, or with ``streaming`` that of ``prepared``."""
        ...

    def close(self) -> None:
        """Free memory and threads."""
        ...


class _Version:
    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.served = _served(runtime)
        self.users = 0
        self.retired = False


class HostedModel:
    """A name, and the newest version of the model in its folder.

    Args:
        name: in addresses.
        folder: written by ``chiasm export``, or a link to it.
        load: folder to runtime; raises ``ChiasmError`` for a broken folder.

    Raises the errors of ``load``.
    """

    def __init__(self, name: str, folder: Path, load: Callable[[Path], Runtime]) -> None:
        self.name = name
        self.folder = folder
        self._load = load
        self._lock = threading.Lock()
        self._reloading = threading.Lock()
        self._loaded_stamp = self._stamp()
        self._current = self._loaded()
        self.reloads = 0

    @property
    def served(self) -> ServedModel:
        """The newest version, for the reports of this service."""
        return self._current.served

    @contextmanager
    def in_use(self) -> Iterator[Runtime]:
        """Yield the newest version, which stays open until the block ends."""
        with self._lock:
            version = self._current
            version.users += 1
        try:
            yield version.runtime
        finally:
            with self._lock:
                version.users -= 1
                last = version.retired and version.users == 0
            if last:
                version.runtime.close()

    def of_product(self, product: str) -> HostedModel:
        """Return the model for parts of a named product; "" where none is named.

        Raises ``Refusal`` where it is of another.
        """
        if product in ("", self.name):
            return self
        raise Refusal(
            422,
            "other_product",
            f"{self.name} is a model of one product, and the field product says "
            f"{shortened(product)!r}; leave it out, or send the part to the model of that product.",
        )

    def decided(self, runtime: Any, verdict: Any) -> tuple[str, Runtime]:
        """Return the name and the runtime that a verdict is of."""
        return self.name, runtime

    def reload(self) -> None:
        """Load the folder again; requests that started with the old version finish with it.

        Raises ``ChiasmError`` if the folder is broken; the old version then stays.
        """
        with self._reloading:
            stamp = self._stamp()
            self._replace(self._loaded())
            self._loaded_stamp = stamp
            self.reloads += 1

    def changed(self) -> bool:
        """Tell whether the folder has been written since it was loaded."""
        stamp = self._stamp()
        return stamp is not None and stamp != self._loaded_stamp

    def close(self) -> None:
        """Close the newest version after its last user."""
        with self._lock:
            version = self._current
            if version.retired:
                return
            version.retired = True
            idle = version.users == 0
        if idle:
            version.runtime.close()

    def _loaded(self) -> _Version:
        runtime = self._load(self.folder)
        try:
            runtime.warm_up(streaming=True)
        except BaseException:
            runtime.close()
            raise
        return _Version(runtime)

    def _replace(self, new: _Version) -> None:
        with self._lock:
            old, self._current = self._current, new
            old.retired = True
            idle = old.users == 0
        if idle:
            old.runtime.close()

    def _stamp(self) -> tuple[int, int, int] | None:
        return _stamp(self.folder / DEPLOYMENT)


class HostedProducts:
    """The models of several products under one name.

    Args:
        name: in addresses.
        folder: written by ``chiasm export``.
        members: by product.
        products: what tells them apart.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        members: Mapping[str, HostedModel],
        products: Sequence[Product],
    ) -> None:
        self.name, self.folder, self.members = name, folder, dict(members)
        self._products = tuple(products)
        self._loaded_stamp = _stamp(folder / PRODUCTS)

    @contextmanager
    def in_use(self) -> Iterator[ProductModels]:
        """Yield the newest versions, which stay open until the block ends."""
        with ExitStack() as stack:
            runtimes = {
                name: stack.enter_context(member.in_use()) for name, member in self.members.items()
            }
            yield ProductModels(runtimes, self._products, naming=_NAMING)

    def of_product(self, product: str) -> HostedModel | HostedProducts:
        """Return the model for parts of a named product; "" where none is named.

        Raises ``Refusal`` for a product that there is not.
        """
        if not product:
            return self
        if product not in self.members:
            raise Refusal(
                422,
                "unknown_product",
                f"{self.name} has no product {shortened(product)!r}; it has "
                f"{', '.join(self.members)}.",
            )
        return self.members[product]

    def decided(self, runtime: Any, verdict: Any) -> tuple[str, Runtime]:
        """Return the name and the runtime that a verdict is of."""
        return verdict.product, runtime.models[verdict.product]

    def changed(self) -> bool:
        """Tell whether the list of products has been written since it was read."""
        stamp = _stamp(self.folder / PRODUCTS)
        return stamp is not None and stamp != self._loaded_stamp

    def reload(self) -> None:
        """Read again what tells the products apart; models are loaded again by themselves.

        Raises ``ArtifactError`` where other products are listed.
        """
        self._loaded_stamp = _stamp(self.folder / PRODUCTS)
        products = read_products(self.folder)
        if {product.name for product in products} != self.members.keys():
            raise ArtifactError(
                f"{self.folder} now lists {', '.join(product.name for product in products)}; "
                "start the service again to serve these."
            )
        self._products = products


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written; None where there is none."""
    try:
        # A network file system looks at the server when a file is opened; what it says of one by
        # name may be a minute old.
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _served(runtime: Runtime) -> ServedModel:
    deployment = runtime.deployment
    rule = deployment.alarm_rule
    deciding: tuple[object, ...] = (
        deployment.calibration_scores,
        rule.false_alarm_rate,
        rule.confidence,
    )
    if rule.known_defects is not None:
        deciding = (*deciding, rule.known_defects)
    return ServedModel(
        model_hash=runtime.model_hash,
        calibration=hashlib.sha256(repr(deciding).encode()).hexdigest()[:8],
        threshold=rule.threshold,
    )
