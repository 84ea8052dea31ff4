#!/usr/bin/env bash
# Run the CUDA tests: tests/gpu/check.sh [pytest's arguments]
#
# For a machine whose image has Python with PyTorch (CUDA), pytest, numpy, transformers and perhaps onnxruntime, and that may reach no
# network. What else these tests need (pydantic, ruamel.yaml, psutil) is installed from the folder tests/gpu/wheels where it exists:
#
#   pip download --dest tests/gpu/wheels --only-binary :all: --python-version 3.12 pydantic ruamel.yaml psutil
#
# fills it on a machine with a network (with that image's version of Python); it is not part of the repository.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}

if [ -d tests/gpu/wheels ]; then
    "$python" -m pip install --quiet --no-index --find-links tests/gpu/wheels pydantic ruamel.yaml psutil
fi

# Every test is skipped without a device: that would look like success.
"$python" - <<'DEVICE'
import sys
import torch
if not torch.cuda.is_available():
    sys.exit(f"torch {torch.__version__} sees no CUDA device: nothing would be tested")
print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")
DEVICE

# The package is not installed there; pytest-benchmark, which the project's own options name, may be missing; and warnings of an image's
# own versions are no errors of this project.
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m pytest -o addopts="--strict-markers -ra" -W default -p no:cacheprovider -m gpu tests/gpu "$@"
