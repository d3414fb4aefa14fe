"""Where a deployment lives, and the only reader of environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "YUNEI_HOME"


@dataclass(frozen=True)
class Home:
    """The paths of one deployment; nothing is created by naming them."""

    folder: Path

    @property
    def bureau(self) -> Path:
        """What the control plane owns."""
        return self.folder / "bureau"

    @property
    def control_db(self) -> Path:
        """The control plane's database, when it is SQLite."""
        return self.bureau / "control.db"

    @property
    def control_key(self) -> Path:
        """The key that signs tickets and audit checkpoints."""
        return self.bureau / "keys" / "control.key"

    @property
    def artefacts(self) -> Path:
        """Submitted models, each named by its SHA-256."""
        return self.bureau / "artefacts"

    @property
    def policies(self) -> Path:
        """The control plane's copy of the policy pack."""
        return self.bureau / "policies"

    @property
    def trust(self) -> Path:
        """Public keys: the control plane's own, the officers', the enclave's."""
        return self.bureau / "trust.json"

    @property
    def enclave(self) -> Path:
        """The enclave's home; the control plane only connects to the socket in it."""
        return self.folder / "enclave"

    @property
    def officer_key(self) -> Path:
        """Where the demo keeps the officer's key. The control plane never reads it."""
        return self.folder / "officer" / "officer.key"


def default_home() -> Path:
    """The deployment's folder when none is named: YUNEI_HOME, or `var` below the working directory."""
    return Path(os.environ.get(VARIABLE) or "var")


def pack_folder() -> Path:
    """The policy pack that ships with this code: the repository's, or the wheel's copy of it."""
    package = Path(__file__).parent
    checkout = package.parent / "policies"
    return checkout if checkout.is_dir() else package / "_pack"
