"""Says so when the original is installed in the same environment.

Both distributions own the folder `pymq`, so files of one may have replaced files of the other.
Nothing is imported for this, and nothing is changed.
"""

from __future__ import annotations

import os
import sys
import warnings

SENTENCE = (
    "the distributions pymq {version} and pymq-rs are both installed here, and both are the "
    "package 'pymq': uninstall both, then install pymq-rs alone"
)


def original_beside(folder: str) -> str | None:
    """The version of the original whose metadata lies in a folder of packages."""
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    for name in names:
        # The distribution of this package is called pymq_rs there.
        if name.startswith("pymq-") and name.endswith(".dist-info"):
            return name[len("pymq-") : -len(".dist-info")]
    return None


def sentence() -> str | None:
    """What to say if the original is installed where this program looks for packages."""
    for folder in sys.path:
        version = original_beside(folder) if os.path.isdir(folder) else None
        if version is not None:
            return SENTENCE.format(version=version)
    return None


def warn_of_original() -> None:
    """Warns of it."""
    said = sentence()
    if said is not None:
        warnings.warn(said, stacklevel=3)


def original_is_in_front() -> bool:
    """Whether `import pymq` gives the original: it was installed last, over our files."""
    return not hasattr(sys.modules["pymq"], "NativeEventBus")
