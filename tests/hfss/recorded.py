"""What pyedb 0.64.0 made of configurations and logs; see tests/data/pyedb/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).resolve().parent.parent / "data" / "pyedb"
CONFIGS: list[dict[str, Any]] = json.loads((DIRECTORY / "configs.json").read_text())
LOGS: dict[str, dict[str, Any]] = json.loads((DIRECTORY / "logs.json").read_text())
EDT = "/opt/ansys/v252/Linux64/ansysedt"
