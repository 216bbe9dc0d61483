"""Import every module of this package, which registers the named classifiers."""

from chiasm.registry import import_modules

import_modules("chiasm.diagnosis.models")
