"""One yes/no answer about one entity."""

from __future__ import annotations

from enclave_runner.contract.job import Answer, Predicate
from enclave_runner.kinds.engine import engine, load_extract
from enclave_runner.kinds.tasks import Lookup, LookupAnswer
from enclave_runner.plan.tables import quote

TESTS = {
    Predicate.EQUALS: "{attribute} = $claim",
    Predicate.AT_LEAST: "{attribute} >= $claim",
    Predicate.EXISTS: "{attribute} IS NOT NULL",
}


def run(task: Lookup, descriptors: list[int]) -> LookupAnswer:
    """YES when some row of the entity fits, NO when it has rows and none fits, NO_RECORD when it has none."""
    test = TESTS[task.predicate].format(attribute=quote(task.attribute))
    parameters = {} if task.predicate is Predicate.EXISTS else {"claim": task.claim}
    with engine() as connection:
        load_extract(connection, descriptors[0])
        sql = f"SELECT count(*), count(*) FILTER (WHERE {test}) FROM t0"
        row = connection.execute(sql, parameters or None).fetchone()
    rows, fitting = row or (0, 0)
    answer = Answer.NO_RECORD if rows == 0 else Answer.YES if fitting else Answer.NO
    return LookupAnswer(answer=answer)
