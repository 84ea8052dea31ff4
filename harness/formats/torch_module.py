"""The format ``torch_module``: a pickled module with the project's own code that its classes need.

A folder holds ``model.pt`` (the module, ``torch.save``), ``state.pt`` (its parameters alone: what a deployment ships, and what model_size
counts) and ``code/`` (a copy of every project file that was imported to make the module), so that it opens in a fresh process when the
project's files have changed or gone. Beside a module that torch has quantized stands ``engine.txt``, the kernel library that it is packed
for: when torch reads the weights it packs them again, for whichever library the process has chosen.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.artifact import AppliedStep, Dataset, ModelArtifact, TensorSpec
from harness.core.errors import BadInput, Problem
from harness.formats.files import digest_of, size_of
from harness.formats.precision import input_dtype
from harness.formats.torchao_tensors import quiet

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

MAIN = "model.pt"
STATE = "state.pt"
CODE = "code"
NAMES = "names.json"
ENGINE = "engine.txt"
REMOTE = "transformers_modules"
"""The package under which transformers imports code that comes with a model, from a cache of its own that a worker does not look into."""
PRINCIPAL = ("logits", "last_hidden_state", "sentence_embedding", "pooler_output")
"""Names that hold the principal output where a model returns a mapping; else its first tensor does."""


def save(module: torch.nn.Module, folder: Path, *, example: Dataset, root: Path, steps: tuple[AppliedStep, ...]) -> ModelArtifact:
    """Write a module in eval mode and describe it; ``example`` gives the inputs' names, dtypes and shapes.

    Raises BadInput when the module cannot be pickled; what it raises when it is called passes through with its traceback.
    """
    import torch

    module = module.eval().cpu()
    outputs = call(module, {name: torch.from_numpy(values[:2].copy()) for name, values in example.inputs.items()})
    _copy_code(folder / CODE, root, module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a pickled quantized module warns about its storage
        try:
            torch.save(module, folder / MAIN)
        except (AttributeError, TypeError, RuntimeError, ValueError) as error:
            hint = "define the class at the top level of the factory's file: a lambda or a local class cannot be saved"
            raise BadInput(Problem(f"the module cannot be saved: {error}", hint=hint)) from error
        torch.save(module.state_dict(), folder / STATE)
    if quantized_layers(module):
        (folder / ENGINE).write_text(torch.backends.quantized.engine)
    files = [folder / STATE]
    return ModelArtifact(
        folder=folder,
        format="torch_module",
        main=MAIN,
        inputs=tuple(TensorSpec(name, str(values.dtype), (None, *values.shape[1:])) for name, values in example.inputs.items()),
        outputs=tuple(
            TensorSpec(name, str(value.dtype).removeprefix("torch."), (None, *value.shape[1:])) for name, value in outputs.items()
        ),
        size_bytes=size_of(files),
        sha256=digest_of(files),
        steps=steps,
    )


def load(artifact: ModelArtifact) -> torch.nn.Module:
    """Open a saved module in eval mode, with the code that it was saved with."""
    import torch

    restore_code(artifact.folder)
    if (engine := artifact.folder / ENGINE).is_file():
        torch.backends.quantized.engine = engine.read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A pickle runs code when it is read. This one was written by this program into its own cache, which checks every file's digest.
        module = torch.load(io.BytesIO(artifact.path.read_bytes()), weights_only=False, map_location="cpu")
    assert isinstance(module, torch.nn.Module)
    return module.eval()


def call(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Call a module as deployments do: one input by position, several by name. Outputs by name, the principal one first.

    Floating inputs are given in the dtype that the module takes.
    """
    import torch

    dtype = input_dtype(module)
    with torch.inference_mode():
        return flatten(invoke(module, {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}))


def invoke(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> object:
    """The bare call, without looking at what comes out."""
    if len(inputs) == 1:
        return module(next(iter(inputs.values())))
    return module(**inputs)


def flatten(outputs: object) -> dict[str, torch.Tensor]:
    """A tensor, a tuple or a mapping of tensors as a dict, the principal output first.

    Raises BadInput when there is no tensor among the outputs.
    """
    import torch

    found: dict[str, torch.Tensor] = {}
    if isinstance(outputs, torch.Tensor):
        found["output"] = outputs
    elif isinstance(outputs, Mapping):
        found = {str(name): value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
    elif isinstance(outputs, Sequence):
        found = {f"output_{index}": value for index, value in enumerate(outputs) if isinstance(value, torch.Tensor)}
    if not found:
        raise BadInput(Problem(f"the model returned {type(outputs).__name__} without any tensor in it"))
    first = next((name for name in PRINCIPAL if name in found), next(iter(found)))
    return {first: found[first], **found}


def quantized_layers(module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The layers that torch itself has quantized, by name, each once: what only holds their packed weights is left out."""
    parts = ((name, part, type(part).__module__) for name, part in module.named_modules())
    return {
        name: part
        for name, part, home in parts
        if home.startswith("torch.ao.nn.") and "quantized" in home and (hasattr(part, "get_weight") or hasattr(part, "weight"))
    }


def packed_weights(layer: torch.nn.Module) -> tuple[torch.Tensor, ...]:
    """The int8 weights of a quantized layer, unpacked."""
    if callable(every := getattr(layer, "get_weight", None)):
        return tuple(every().values())
    return (weight(),) if callable(weight := getattr(layer, "weight", None)) else ()


def arrays(outputs: Mapping[str, torch.Tensor]) -> tuple[NDArray[np.generic], ...]:
    """Outputs as numpy arrays; half precision becomes float32, which numpy can hold."""
    import torch

    half = (torch.bfloat16, torch.float16)
    return tuple((value.float() if value.dtype in half else value).detach().cpu().numpy() for value in outputs.values())


class SavedCode(importlib.abc.MetaPathFinder):
    """Finds the saved copies of a project's modules under the names that they were imported by, each only when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        document = json.loads((folder / NAMES).read_text())
        self.names: dict[str, str] = document["names"]
        self.needed: list[str] = document["needed"]

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.names:
            return None
        file = self.folder / self.names[fullname]
        package = [str(file.parent)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(fullname, file, submodule_search_locations=package)


def restore_code(artifact_folder: Path) -> None:
    """Make a model's saved code importable, and import the modules that its classes are from: opening it then only reads weights."""
    for name in installed_modules(artifact_folder):
        with contextlib.suppress(ImportError), quiet():  # where it is needed all the same, opening the model says so
            importlib.import_module(name)
    code = SavedCode(artifact_folder / CODE)
    if not any(isinstance(finder, SavedCode) and finder.folder == code.folder for finder in sys.meta_path):
        sys.meta_path.insert(0, code)
        folders = sorted({str((code.folder / relative).parent) for relative in code.names.values()} | {str(code.folder)})
        sys.path[:0] = [path for path in folders if path not in sys.path]
    for name in code.needed:
        importlib.import_module(name)


def installed_modules(artifact_folder: Path) -> tuple[str, ...]:
    """The installed modules that the classes of a saved model are from; none of the project's own."""
    names = artifact_folder / CODE / NAMES
    return tuple(json.loads(names.read_text()).get("installed", ())) if names.is_file() else ()


def _copy_code(into: Path, root: Path, module: torch.nn.Module) -> None:
    """Copy the project's own files that are imported now, with all that came with the artifact that the module was opened from."""
    files: dict[str, tuple[Path, Path]] = {}
    homes = {type(part).__module__ for part in (*module.modules(), *module.parameters())}  # a quantized weight has a class of its own
    origins = {Path(str(getattr(sys.modules.get(home), "__file__", ""))) for home in homes}
    for finder in sys.meta_path:
        if isinstance(finder, SavedCode) and any(origin.is_relative_to(finder.folder) for origin in origins):
            files |= {name: (finder.folder / relative, Path(relative)) for name, relative in finder.names.items()}
    for name, imported in list(sys.modules.items()):
        if name not in files and (path := _project_file(name, imported, root.resolve())) is not None:
            files[name] = path, path.relative_to(root.resolve())
    files |= _remote_files()
    for path, relative in files.values():
        (into / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into / relative)
    into.mkdir(exist_ok=True)
    names = {name: relative.as_posix() for name, (_, relative) in files.items()}
    needed = sorted(homes.intersection(names))
    installed = sorted(home for home in homes.difference(names) if home.partition(".")[0] != "__main__")
    document = {"names": names, "needed": needed, "installed": installed}
    (into / NAMES).write_text(json.dumps(document, indent=1, sort_keys=True))


def _remote_files() -> dict[str, tuple[Path, Path]]:
    """The code that came with a model and was allowed to run, with the packages that it stands in."""
    found: dict[str, tuple[Path, Path]] = {}
    for name, imported in list(sys.modules.items()):
        parts = name.split(".")
        file = getattr(imported, "__file__", None)
        if parts[0] != REMOTE or file is None:
            continue
        folder = Path(file).parents[len(parts) - (not file.endswith("__init__.py"))]
        found[name] = Path(file), Path(file).relative_to(folder)
        for length in range(1, len(parts)):
            if (package := folder.joinpath(*parts[:length], "__init__.py")).is_file():
                found[".".join(parts[:length])] = package, package.relative_to(folder)
    return found


def _project_file(name: str, module: object, root: Path) -> Path | None:
    """The file of an imported module where it belongs to the user's project."""
    file = getattr(module, "__file__", None)
    if name == "__main__" or name.split(".")[0] == "harness" or file is None or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    # torch's own torch._ops calls itself '_ops.py', which is nowhere
    return path if path.is_file() and path.is_relative_to(root) and "site-packages" not in path.parts else None
