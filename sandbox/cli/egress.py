"""`yunei egress`: people judge what a script gave, with the script and the receipt before them, before it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from enclave_runner.contract.errors import Refused
from enclave_runner.contract.script import ScriptJob
from sandbox.cli.exports import check_target, write_file
from sandbox.cli.jobs import show_submissions
from sandbox.cli.releases import SubmissionId, show_outcome
from sandbox.cli.session import Session
from sandbox.domain.submission import SubmissionStatus, Verdict
from sandbox.workflow.egress import review_egress
from sandbox.workflow.releases import get_release, get_submission, list_submissions
from sandbox.workflow.scripts import show_script

app = typer.Typer(help="出域审查 / Review what leaves", no_args_is_help=True)


@app.command(name="list", help="待审结果 / Results that wait for review")
def list_waiting(context: typer.Context) -> None:
    """What ran and has not left."""
    session: Session = context.obj
    with session.office() as (office, actor):
        found = list_submissions(office, actor)
    show_submissions(session, tuple(item for item in found if item.status is SubmissionStatus.EGRESS_REVIEW))


@app.command(name="show", help="查看待审结果（仅审查员）/ A result that waits (reviewers only)")
def show(context: typer.Context, submission_id: SubmissionId) -> None:
    """The noisy values with their intervals, and the receipt. Only reviewers see them before they are released."""
    session: Session = context.obj
    with session.office() as (office, actor):
        outcome = get_release(office, actor, submission_id)
    show_outcome(session, outcome)


@app.command(name="script", help="查看提交的脚本 / The script of a submission")
def script(
    context: typer.Context,
    submission_id: SubmissionId,
    out: Annotated[Path | None, typer.Option(help="另存为 / also write to")] = None,
) -> None:
    """The very bytes that run, or ran: their digest stands in the submission, the ticket and the receipt."""
    session: Session = context.obj
    if out is not None:
        check_target(out)
    with session.office() as (office, actor):
        job = get_submission(office, actor, submission_id).job
        if not isinstance(job, ScriptJob):
            raise Refused("script.unknown")
        content = show_script(office, actor, job.script_sha256)
    if out is not None:
        write_file(out, content)
    text = content.decode()  # it was filed as a text without a character that moves a cursor
    session.show({"sha256": job.script_sha256, "script": text}, lambda console: console.print(Text(text)))


def _verdict_command(name: str, verdict: Verdict, summary: str) -> None:
    @app.command(name=name, help=summary)
    def decide(
        context: typer.Context,
        submission_id: SubmissionId,
        ground: Annotated[str, typer.Option(help="理由；拒绝的理由会告知申请方 / ground; a rejection's is told")],
    ) -> None:
        session: Session = context.obj
        with session.office() as (office, actor):
            submission = review_egress(office, actor, submission_id, verdict, ground)
        show_submissions(session, (submission,))


_verdict_command("approve", Verdict.APPROVE, "同意出域；票数够即发布 / Let it go; released once there are enough")
_verdict_command("reject", Verdict.REJECT, "不予出域：不计费，隐私损失不退 / Withhold: unpaid, the loss stays spent")
