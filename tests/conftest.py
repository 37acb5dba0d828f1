"""Settings for the whole test session, made before any framework is imported."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# The models are tiny: a second thread costs more than it brings, and the outputs in the pages show last digits.
os.environ.setdefault("OMP_NUM_THREADS", "1")
