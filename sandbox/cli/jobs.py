"""`yunei quote`, `submit`, `review`, `job`, `release`: from a question to its released answer."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.job import Job, ModelJob, QueryJob
from enclave_runner.contract.privacy import asked_budget
from enclave_runner.contract.receipt import DPTable
from sandbox.cli.charts import bars_of
from sandbox.cli.session import (
    EXIT_OK,
    Session,
    built,
    identifier_from_input,
    readable,
    report_failed,
    report_refused,
)
from sandbox.domain.submission import Submission, SubmissionStatus, Verdict
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.office import Actor, Office
from sandbox.workflow.quote import quote
from sandbox.workflow.releases import get_release, get_submission, list_submissions
from sandbox.workflow.review import review
from sandbox.workflow.settle import Outcome
from sandbox.workflow.submit import submit
from sandbox.workflow.verify import verify

submit_app = typer.Typer(help="提交任务 / Submit a job", no_args_is_help=True)
review_app = typer.Typer(help="审查提交 / Review submissions", no_args_is_help=True)
job_app = typer.Typer(help="作业 / Jobs", no_args_is_help=True)
release_app = typer.Typer(help="出域结果 / Releases", no_args_is_help=True)

GrantOption = Annotated[str, typer.Option("--grant", help="授权编号 / grant id")]
Epsilon = Annotated[str, typer.Option(help="隐私损失上限 ε / privacy loss ε at most")]
Delta = Annotated[str, typer.Option(help="δ")]
Sql = Annotated[str, typer.Argument(help="SELECT 语句 / SELECT statement")]
SubmissionId = Annotated[str, typer.Argument(help="提交编号 / submission id")]


def add_commands(app: typer.Typer) -> None:
    """Register `quote` and the groups."""
    app.command(name="quote", help="运行前报价：隐私损失、精度、价格 / Loss, accuracy and price before running")(
        show_quote
    )
    app.add_typer(submit_app, name="submit")
    app.add_typer(review_app, name="review")
    app.add_typer(job_app, name="job")
    app.add_typer(release_app, name="release")


def show_quote(
    context: typer.Context, sql: Sql, grant: GrantOption, epsilon: Epsilon = "1", delta: Delta = "1e-6"
) -> None:
    """A quote touches no data and spends nothing."""
    session: Session = context.obj
    job = query_job(sql, epsilon, delta)
    with session.office() as (office, actor):
        offered = quote(office, actor, grant, job)
    rows = [(m.name, m.unit, f"± {m.half_width}") for m in offered.quote.measures]
    losses = ", ".join(f"{loss.entity_set} ρ={loss.rho}" for loss in offered.quote.losses)
    title = f"报价 / quote: {losses}; {offered.quote.cells} cells; {offered.charge.unit_price_fen} fen"
    session.table(offered, title, ("column", "unit", ">95 % interval"), rows)


@submit_app.command(name="sql", help="差分隐私查询 / A differentially private query")
def submit_sql(
    context: typer.Context, sql: Sql, grant: GrantOption, epsilon: Epsilon = "1", delta: Delta = "1e-6"
) -> None:
    """Runs at once unless a review is asked for."""
    session: Session = context.obj
    job = query_job(sql, epsilon, delta)
    with session.office() as (office, actor):
        _submit_and_run(session, office, actor, grant, job, None)


def query_job(sql: str, epsilon: str, delta: str) -> QueryJob:
    """The query that stands on the command line.

    Raises:
        Refused: `budget.malformed`; typer.BadParameter for a text that is empty or too long.
    """
    budget = asked_budget(epsilon, delta)
    return built(lambda: QueryJob(sql=sql, budget=budget))


@submit_app.command(
    name="model", help="在数据旁评分的 ONNX 模型，只出差分隐私直方图 / An ONNX model; only a DP histogram leaves"
)
def submit_model(
    context: typer.Context,
    sql: Sql,
    grant: GrantOption,
    model: Annotated[Path, typer.Option(help="ONNX 文件 / ONNX file")],
    output: Annotated[str, typer.Option(help="模型输出名 / the model's output")] = "probabilities",
    epsilon: Epsilon = "1",
    delta: Delta = "1e-6",
    bins: Annotated[int, typer.Option(help="分箱数 / bins", min=2, max=1000)] = 20,
) -> None:
    """The features come from the SELECT, in order."""
    session: Session = context.obj
    content = readable(model).read_bytes()
    budget, sha256 = asked_budget(epsilon, delta), hashlib.sha256(content).hexdigest()
    job = built(lambda: ModelJob(sql=sql, budget=budget, model_sha256=sha256, output=output, bins=bins))
    with session.office() as (office, actor):
        _submit_and_run(session, office, actor, grant, job, content)


@submit_app.command(
    name="verify", help="核验一个主体的一个属性；编号从标准输入读 / Verify; the identifier is read from standard input"
)
def submit_verify(
    context: typer.Context,
    product: Annotated[str, typer.Option(help="数据产品 / product")],
    claim: Annotated[str, typer.Option(help="声称的值 / the claimed value")] = "",
) -> None:
    """The identifier never stands on a command line, which other users of the machine can read."""
    session: Session = context.obj
    subject = identifier_from_input()
    with session.office() as (office, actor):
        outcome = verify(office, actor, product, subject, claim)
    show_outcome(session, outcome)


def _submit_and_run(
    session: Session, office: Office, actor: Actor, grant: str, job: Job, content: bytes | None
) -> None:
    submission = submit(office, actor, grant, job, content)
    if submission.status is SubmissionStatus.ADMITTED:
        show_outcome(session, dispatch(office, submission.submission_id))
    else:
        _show_submissions(session, (submission,))


def show_outcome(session: Session, outcome: Outcome) -> None:
    """The release with its receipt, or why there is none: then the exit code is 3 or 4."""
    receipt, code = outcome.receipt, EXIT_OK
    beside = {"submission": outcome.submission, "receipt": receipt, "charge": outcome.charge}
    if receipt.rule is not None:
        code = report_refused(session, Refused(receipt.rule, **receipt.facts), beside)
    elif receipt.fault is not None:
        code = report_failed(session, Failed("job.failed", receipt.fault), beside)
    else:
        session.show(outcome, lambda console: _draw_release(console, outcome))
    if not session.as_json:
        _draw_receipt(session.console, outcome)
    if code != EXIT_OK:
        raise typer.Exit(code)


def _draw_release(console: Console, outcome: Outcome) -> None:
    if isinstance(outcome.release, DPTable):
        console.print(dp_table(outcome.release))
    elif outcome.release is not None:
        console.print(outcome.release.answer.value, style="bold")


def _draw_receipt(console: Console, outcome: Outcome) -> None:
    receipt = outcome.receipt
    losses = ", ".join(f"{loss.entity_set} ρ={loss.rho}" for loss in receipt.losses) or "0"
    console.print(
        f"回执 / receipt {receipt.receipt_id} #{receipt.sequence} · loss {losses} · "
        f"{outcome.charge.unit_price_fen} fen ({outcome.charge.legal_basis})"
    )


def dp_table(release: DPTable) -> Table:
    """A released table: every number with its 95 % interval."""
    table = Table(caption=f"ε = {release.epsilon}, δ = {release.delta}; ± 95 % of the noise", caption_justify="left")
    for key in release.keys:
        table.add_column(key)
    for measure in release.measures:
        table.add_column(f"{measure.name}  (± {measure.half_width})", justify="right")
    table.add_column("")
    for row, bar in zip(release.rows, bars_of(release), strict=True):
        table.add_row(*row, bar)
    return table


@review_app.command(name="list", help="待审提交 / Submissions that wait for review")
def review_list(context: typer.Context) -> None:
    """What waits."""
    session: Session = context.obj
    with session.office() as (office, actor):
        waiting = tuple(s for s in list_submissions(office, actor) if s.status is SubmissionStatus.IN_REVIEW)
    _show_submissions(session, waiting)


def _review_command(name: str, verdict: Verdict, summary: str) -> None:
    @review_app.command(name=name, help=summary)
    def decide(
        context: typer.Context,
        submission_id: SubmissionId,
        ground: Annotated[str, typer.Option(help="理由 / ground")],
    ) -> None:
        session: Session = context.obj
        with session.office() as (office, actor):
            submission = review(office, actor, submission_id, verdict, ground)
            if submission.status is SubmissionStatus.ADMITTED:
                show_outcome(session, dispatch(office, submission_id))
            else:
                _show_submissions(session, (submission,))


_review_command("approve", Verdict.APPROVE, "批准；票数够即运行 / Approve; runs once there are enough")
_review_command("reject", Verdict.REJECT, "驳回 / Reject")


@job_app.command(name="list", help="列出提交 / List submissions")
def job_list(context: typer.Context) -> None:
    """All submissions that the actor may see."""
    session: Session = context.obj
    with session.office() as (office, actor):
        submissions = list_submissions(office, actor)
    _show_submissions(session, submissions)


@job_app.command(name="show", help="查看一项提交 / Show one submission")
def job_show(context: typer.Context, submission_id: SubmissionId) -> None:
    """One submission and its state."""
    session: Session = context.obj
    with session.office() as (office, actor):
        submission = get_submission(office, actor, submission_id)
    _show_submissions(session, (submission,))


@release_app.command(name="get", help="取回出域结果与回执 / The release and its receipt")
def release_get(
    context: typer.Context,
    submission_id: SubmissionId,
    out: Annotated[Path | None, typer.Option(help="另存为 JSON / also write JSON to")] = None,
) -> None:
    """The released value, as often as needed, at no new loss and no new price."""
    session: Session = context.obj
    with session.office() as (office, actor):
        outcome = get_release(office, actor, submission_id)
    if out is not None:
        _write_release(out, outcome)
    show_outcome(session, outcome)


def _write_release(out: Path, outcome: Outcome) -> None:
    """Whole or not at all.

    Raises:
        Failed: `file.unwritable`.
    """
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise Failed("file.unwritable")
    draft = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(outcome.release_bytes or b"null")
        draft.replace(out)
    except OSError:
        draft.unlink(missing_ok=True)
        raise Failed("file.unwritable") from None


def _show_submissions(session: Session, submissions: tuple[Submission, ...]) -> None:
    rows = [
        (s.submission_id, s.job.mode.value, s.operator_id, s.requester_id, s.grant_id, s.status.value)
        for s in submissions
    ]
    columns = ("submission", "kind", "operator", "requester", "grant", "status")
    session.table(submissions, "提交 / submissions", columns, rows)
