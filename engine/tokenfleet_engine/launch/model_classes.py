"""What vLLM finds out about a model's class before it starts: kept when the image is built, and laid where vLLM looks for it.

vLLM runs a second Python with all of itself in it to learn what a class can do, and keeps the answer in its cache, which is
empty in every new pod: ten of the forty seconds that a small model takes to start. An answer carries the hash of the class's
source file, so that one of another vLLM counts for nothing. `python -m tokenfleet_engine.launch.model_classes DIR` fills DIR
within one process; only the standard library is imported here, so that the build can run this file by itself.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

KEPT: Final = Path("/opt/tokenfleet/modelinfos")
_CACHE: Final = "VLLM_CACHE_ROOT"
_PLACE: Final = "modelinfos"
"""vllm/model_executor/models/registry.py:_LazyRegisteredModel._get_cache_dir."""


def lay_out(environment: Mapping[str, str], *, kept: Path = KEPT) -> bool:
    """Copy what is kept into vLLM's cache. Whether it was; where not, vLLM finds out for itself."""
    root = environment.get(_CACHE)
    if not root or not kept.is_dir():
        return False
    try:
        shutil.copytree(kept, Path(root) / _PLACE, copy_function=shutil.copyfile, dirs_exist_ok=True)
    except OSError:
        return False
    return True


def keep(directory: Path) -> tuple[int, int]:
    """Ask the vLLM that is installed about each of its classes: how many answers are kept, how many cannot be had here."""
    os.environ[_CACHE] = str(directory.parent)
    from vllm.model_executor.models import registry

    kept = 0
    models = [each for each in registry.ModelRegistry.models.values() if isinstance(each, registry._LazyRegisteredModel)]
    for model in models:
        try:
            _keep(model, registry._ModelInfo)
        except Exception as error:  # noqa: BLE001  (any of them may lack a library, or hardware)
            sys.stderr.write(f"{model.class_name}: {type(error).__name__}: {error}\n")
        else:
            kept += 1
    return kept, len(models) - kept


def _keep(model: Any, info: Any) -> None:
    found = importlib.util.find_spec(model.module_name)
    if found is None or found.origin is None:
        raise ImportError(model.module_name)
    model._save_modelinfo_to_cache(
        info.from_model_cls(model.load_model_cls()), model._get_modelinfo_module_hash(Path(found.origin))
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if target.name != _PLACE:
        raise SystemExit(f"the directory must be called {_PLACE}")
    print("kept {} classes, {} cannot be loaded here".format(*keep(target)))
