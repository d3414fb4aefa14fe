"""`yunei submit`, `review`, `job`: from a question to its released answer."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from enclave_runner.contract.job import Job, ModelJob, QueryJob
from enclave_runner.contract.privacy import asked_budget
from enclave_runner.contract.script import MAX_BLOCKS, MIN_BLOCKS, ScriptJob, ScriptOutput
from sandbox.cli.releases import ChartFile, CsvFile, Exports, SubmissionId, show_outcome
from sandbox.cli.session import Session, built, identifier_from_input, readable
from sandbox.cli.statement import pointing_into
from sandbox.domain.submission import Submission, SubmissionStatus, Verdict
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.office import Actor, Office
from sandbox.workflow.releases import get_release, get_submission, list_submissions
from sandbox.workflow.review import review
from sandbox.workflow.submit import submit
from sandbox.workflow.verify import verify


class SubmitGroup(TyperGroup):
    """`yunei submit "SELECT …" …` is `yunei submit sql "SELECT …" …`: a statement is no word, and options are none."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Name the command that is meant."""
        if args and (len(args[0].split()) > 1 or (args[0].startswith("-") and args[0] not in ctx.help_option_names)):
            args = ["sql", *args]
        return super().parse_args(ctx, args)


submit_app = typer.Typer(
    cls=SubmitGroup,
    help='提交任务；直接写语句即查询 / Submit a job; a statement alone is a query: yunei submit "SELECT …" --grant …',
    no_args_is_help=True,
)
review_app = typer.Typer(help="审查提交 / Review submissions", no_args_is_help=True)
job_app = typer.Typer(help="作业 / Jobs", no_args_is_help=True)

GrantOption = Annotated[str, typer.Option("--grant", help="授权编号 / grant id")]
Epsilon = Annotated[
    str, typer.Option(help="ε 上限，语句内 OPTIONS 可更小 / ε at most; OPTIONS in the text may say less")
]
Delta = Annotated[str, typer.Option(help="δ 上限 / δ at most")]
Sql = Annotated[str, typer.Argument(help="SELECT 语句 / SELECT statement")]
OneSql = Annotated[str | None, typer.Argument(help="SELECT 语句 / SELECT statement", show_default=False)]
Workload = Annotated[
    Path | None, typer.Option(help="多条语句的文件，分号分隔，一并作答 / a file of statements, answered jointly")
]


def add_commands(app: typer.Typer) -> None:
    """Register the groups."""
    app.add_typer(submit_app, name="submit")
    app.add_typer(review_app, name="review")
    app.add_typer(job_app, name="job")


@submit_app.command(name="sql", help="差分隐私查询 / A differentially private query")
def submit_sql(
    context: typer.Context,
    grant: GrantOption,
    sql: OneSql = None,
    workload: Workload = None,
    epsilon: Epsilon = "1",
    delta: Delta = "1e-6",
    chart: ChartFile = None,
    csv: CsvFile = None,
) -> None:
    """Runs at once unless a review is asked for. `--chart` and `--csv` are written when it has run."""
    session: Session = context.obj
    job, exports = query_job(text_of(sql, workload), epsilon, delta), Exports(chart=chart, csv=csv)
    exports.check()
    with pointing_into(session, job.sql), session.office() as (office, actor):
        _submit_and_run(session, office, actor, grant, job, None, exports)


def text_of(sql: str | None, workload: Path | None) -> str:
    """The statement of the line, or those of the file.

    Raises:
        Failed: `file.unreadable`; typer.BadParameter for both or neither, and for a file that is no text.
    """
    if (sql is None) == (workload is None):
        raise typer.BadParameter("SELECT … or --workload FILE.sql, one of them")
    if workload is None:
        return sql or ""
    return built(lambda: readable(workload).read_bytes().decode("utf-8-sig"))


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
    with pointing_into(session, sql), session.office() as (office, actor):
        _submit_and_run(session, office, actor, grant, job, content, Exports())


@submit_app.command(
    name="script",
    help="在数据旁运行的 Python 脚本，只出加噪均值 / A Python script; only noisy means of its outputs leave",
)
def submit_script(
    context: typer.Context,
    sql: Sql,
    grant: GrantOption,
    script: Annotated[Path, typer.Option(help="Python 文件，定义 main(data) / Python file that defines main(data)")],
    output: Annotated[list[str], typer.Option(help="输出及其范围 / an output and its range: name:low:high")],
    epsilon: Epsilon = "1",
    delta: Delta = "1e-6",
    blocks: Annotated[int, typer.Option(help="分块数 / blocks", min=MIN_BLOCKS, max=MAX_BLOCKS)] = 40,
) -> None:
    """People read the script before it runs, and its results before they leave; `main` returns a number per output."""
    session: Session = context.obj
    content = readable(script).read_bytes()
    budget, outputs = asked_budget(epsilon, delta), tuple(script_output(text) for text in output)
    sha256 = hashlib.sha256(content).hexdigest()
    job = built(lambda: ScriptJob(sql=sql, budget=budget, script_sha256=sha256, outputs=outputs, blocks=blocks))
    with pointing_into(session, sql), session.office() as (office, actor):
        _submit_and_run(session, office, actor, grant, job, content, Exports())


def script_output(text: str) -> ScriptOutput:
    """An output as it stands on a command line.

    Raises:
        typer.BadParameter: for what is not name:low:high.
    """
    name, _, bounds = text.partition(":")
    low, found, high = bounds.partition(":")
    if not found:
        raise typer.BadParameter("write --output name:low:high")
    return built(lambda: ScriptOutput(name=name, low=low, high=high))


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
    session: Session,
    office: Office,
    actor: Actor,
    grant: str,
    job: Job,
    content: bytes | None,
    exports: Exports,
) -> None:
    submission = submit(office, actor, grant, job, content)
    if submission.status is SubmissionStatus.ADMITTED:
        dispatch(office, submission.submission_id)
        submission = get_submission(office, actor, submission.submission_id)
    if submission.status in (SubmissionStatus.IN_REVIEW, SubmissionStatus.EGRESS_REVIEW):
        show_submissions(session, (submission,))
    else:
        show_outcome(session, get_release(office, actor, submission.submission_id), exports)


@review_app.command(name="list", help="待审提交 / Submissions that wait for review")
def review_list(context: typer.Context) -> None:
    """What waits."""
    session: Session = context.obj
    with session.office() as (office, actor):
        waiting = tuple(s for s in list_submissions(office, actor) if s.status is SubmissionStatus.IN_REVIEW)
    show_submissions(session, waiting)


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
                show_submissions(session, (submission,))


_review_command("approve", Verdict.APPROVE, "批准；票数够即运行 / Approve; runs once there are enough")
_review_command("reject", Verdict.REJECT, "驳回 / Reject")


@job_app.command(name="list", help="列出提交 / List submissions")
def job_list(context: typer.Context) -> None:
    """All submissions that the actor may see."""
    session: Session = context.obj
    with session.office() as (office, actor):
        submissions = list_submissions(office, actor)
    show_submissions(session, submissions)


@job_app.command(name="show", help="查看一项提交 / Show one submission")
def job_show(context: typer.Context, submission_id: SubmissionId) -> None:
    """One submission and its state."""
    session: Session = context.obj
    with session.office() as (office, actor):
        submission = get_submission(office, actor, submission_id)
    show_submissions(session, (submission,))


def show_submissions(session: Session, submissions: tuple[Submission, ...]) -> None:
    """One row each: who asked for what under which grant, and where it stands."""
    rows = [
        (s.submission_id, s.job.mode.value, s.operator_id, s.requester_id, s.grant_id, s.status.value)
        for s in submissions
    ]
    columns = ("submission", "kind", "operator", "requester", "grant", "status")
    session.table(submissions, "提交 / submissions", columns, rows)
