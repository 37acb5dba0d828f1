"""The cases and runs are those of the table: scripts/table_optimizers.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
