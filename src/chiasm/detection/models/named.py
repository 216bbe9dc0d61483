"""Import every module of this package, which registers the named detectors."""

from chiasm.registry import import_modules

import_modules("chiasm.detection.models")
