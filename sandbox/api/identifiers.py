"""The forms of ids in paths and bodies. Ids name parties, grants and jobs; an identifier of a person is never one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import Path, Query

from sandbox.api.problem import Misfit
from sandbox.rules.duties import MAX_GROUND

SLUG = "^[a-z][a-z0-9_-]{0,62}$"
TOKEN = "^[A-Za-z0-9_-]{1,80}$"  # noqa: S105 - the form of ids that the platform gives out, no secret
MONTH = "^20[0-9]{2}-(0[1-9]|1[0-2])$"
SHA256 = "^[0-9a-f]{64}$"

Slug = Annotated[str, msgspec.Meta(pattern=SLUG)]
Token = Annotated[str, msgspec.Meta(pattern=TOKEN)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Ground = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_GROUND, description="why; kept with the record")]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

SlugInPath = Annotated[str, Path(pattern=SLUG)]
SlugInQuery = Annotated[str, Query(pattern=SLUG)]
TokenInPath = Annotated[str, Path(pattern=TOKEN)]
BilledMonth = Annotated[str, Query(pattern=MONTH, description="Month in Asia/Shanghai, such as 2026-11")]
MonthInQuery = Annotated[str | None, Query(pattern=MONTH, description="Month in Asia/Shanghai, such as 2026-11")]


def require_plausible(*moments: datetime) -> None:
    """No calendar arithmetic overflows on these.

    Raises:
        Misfit: a moment before 2000 or after 2199.
    """
    if any(not 2000 <= moment.year < 2200 for moment in moments):
        raise Misfit("$", "a moment before 2000 or after 2199")
