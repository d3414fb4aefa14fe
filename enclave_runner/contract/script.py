"""A script: an operator's own Python over granted columns, of which only noisy means of its outputs leave.

The entities are dealt at random into disjoint blocks; the script runs once over each, in a process of its own that
knows nothing of the others; every output is clipped into its declared range; the mean over the blocks gets noise.
One entity changes one block, whatever the script does (sample and aggregate: Nissim, Raskhodnikova and Smith 2007;
GUPT: Mohan et al. 2012).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from enclave_runner.contract.codec import Value
from enclave_runner.contract.dataset import NAME
from enclave_runner.contract.grant import Mode
from enclave_runner.contract.privacy import Budget, number

MAX_SCRIPT_BYTES = 200_000
MAX_OUTPUTS = 100
MIN_BLOCKS, MAX_BLOCKS = 8, 400
MAX_SQL = 20_000


class ScriptOutput(Value, frozen=True):
    """One number that the script gives: `low` and `high` are decimal texts; what lies outside is clipped to them."""

    name: str
    low: str
    high: str

    def __post_init__(self) -> None:
        if NAME.fullmatch(self.name) is None or not number(self.low) < number(self.high):
            raise ValueError("an output has a name and a range: low < high")
        if max(abs(number(self.low)), abs(number(self.high))) > 10**12:
            raise ValueError("the range of an output lies within ±10^12")


class ScriptJob(Value, frozen=True, tag="script"):
    """A Python script (UTF-8, at most 200 000 bytes) over `SELECT columns FROM dataset [WHERE …]`.

    `script_sha256` is the digest of its bytes: what was reviewed is what runs. It defines `main(data)`, where `data`
    maps each column to a numpy array of one block, and returns a number for each output. A block that fails, or gives
    no finite number, counts as the middle of the range.
    """

    sql: str
    budget: Budget
    script_sha256: str
    outputs: Annotated[tuple[ScriptOutput, ...], msgspec.Meta(min_length=1, max_length=MAX_OUTPUTS)]
    blocks: Annotated[int, msgspec.Meta(ge=MIN_BLOCKS, le=MAX_BLOCKS)] = 40

    def __post_init__(self) -> None:
        if not 0 < len(self.sql) <= MAX_SQL:
            raise ValueError("SQL text: 1 to 20 000 characters")
        names = [output.name for output in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError("each output has a name of its own")

    @property
    def mode(self) -> Mode:
        """The grant mode that this job needs."""
        return Mode.SCRIPT
