#!/usr/bin/env bash
# What a GPU makes of GLIP-L at 800 x 1333, batch 2, in under five minutes. Nothing has to be downloaded.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec "${PYTHON:-.venv/bin/python}" -m projects.benchmark.gpu "$@"
