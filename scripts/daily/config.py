"""What the daily job is told: one YAML file, checked before any work."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from model_stage.config.schema import StrictModel
from model_stage.evaluation.verdict import TOLERANCE
from serving.options import PLAIN, ClientSecurity


class DailyConfig(StrictModel):
    """Paths are taken from the folder that the job is started in."""

    incoming: Path | None = None
    """Dataset folder with new behaviors, and new tables if there are any; None = all behaviors come live."""
    dataset: Path
    """Dataset folder with impressions and splits.json: what to train on, and the split `test` to decide by."""
    config: Path
    """Folder with schema, targets, train and search.yaml."""
    store: Path
    index: Path
    attention: Path
    """Root of the bundle whose attention table is kept from day to day."""
    bundles: Path
    """Root of the bundles that are served."""
    work: Path
    """Folder of the job itself: what it remembers, and bundles that are not published yet."""
    served_log: Path | None = None
    """Log of what was served yesterday; every answer must come out again. None = that is not asked."""
    keep: int = Field(default=3, ge=2)
    """Generations to keep of store, index and bundles, the new ones included: those before are there to go back to."""
    tolerance: float = Field(default=TOLERANCE, ge=0.0)
    """A new bundle is published only if no interval of its gain over the served one reaches below minus this."""
    max_calibration_error: float = Field(default=0.02, gt=0.0)
    """Largest expected calibration error of a target on the split `test`."""
    ranking: str | None = None
    """Address of the ranking service that serves `bundles`; it must answer with the new bundle. None = that is not
    asked, and the new bundle is tried in this process alone."""
    security: ClientSecurity = PLAIN
    """How to know that service, and how to be known: `tls_ca`, `tls_cert`, `tls_key`, `token_file`."""
    wait_s: float = Field(default=60.0, gt=0.0)
    """How long to wait for it."""
