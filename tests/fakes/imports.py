"""A test that imports a project's code leaves none of it behind."""

import contextlib
import sys
from pathlib import Path


@contextlib.contextmanager
def forgetting_imports(below):
    """Forget what is imported from ``below``, and who found it there: a build normally has a process of its own."""
    path, known, finders = list(sys.path), set(sys.modules), list(sys.meta_path)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None) or next(iter(getattr(sys.modules[name], "__path__", [])), "")
            if file and Path(file).is_relative_to(below):
                del sys.modules[name]
        sys.meta_path[:] = [one for one in sys.meta_path if one in finders or not Path(getattr(one, "folder", "")).is_relative_to(below)]
