"""`yunei demo`: the whole business once, on real census microdata and a generated city, in under sixty lines of output.

A second run spends nothing: it shows the stored story and verifies the logs again.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Annotated

import msgspec
import typer

from enclave_runner.contract.codec import Value, decode, encode
from sandbox.cli.deployment import create_deployment
from sandbox.cli.narrator import Narrator
from sandbox.cli.scenes import (
    Stage,
    authorize,
    catalogue,
    close,
    refuse_without_grant,
    release_table,
    score_model,
    spend_the_odometer,
    tamper,
    verify_two,
)
from sandbox.cli.session import EXIT_NOT_VERIFIED, Session
from sandbox.pilot.parties import city_parties
from sandbox.settings import Home
from sandbox.workflow.audit import verify_audit
from sandbox.workflow.parties import register_party


class ToldRefusal(Value, frozen=True):
    """One refusal of the story."""

    rule: str
    article: str
    reason: str
    remedy: str


class Story(Value, frozen=True):
    """The figures of the demo, and the text that told them."""

    releases: int
    refusals: tuple[ToldRefusal, ...]
    free_uses: int
    paid_uses: int
    invoice_total_fen: int
    privacy_loss: dict[str, str]
    audit_ok: bool
    tamper_detected: bool
    lines: tuple[str, ...]


def add_commands(app: typer.Typer) -> None:
    """Register `demo`."""
    app.command(name="demo", help="在真实数据上走完全流程 / The whole business once, on real data")(demo)


def demo(
    context: typer.Context,
    residents: Annotated[int, typer.Option(help="试点城市人口 / residents of the pilot city", min=1000)] = 20_000,
) -> None:
    """Play the story in `<home>/demo`, or show it again."""
    outer: Session = context.obj
    session = replace(outer, home=Home(outer.home.folder / "demo"), party="bureau", person="demo")
    stored = session.home.folder / "story.json"
    if stored.exists():
        story = _again(session, decode(stored.read_bytes(), Story))
    else:
        story = _play(session, residents)
        draft = stored.with_suffix(".new")
        draft.write_bytes(encode(story))
        draft.replace(stored)  # its presence says that the demo reached its end
    if session.as_json:
        session.show({name: value for name, value in msgspec.to_builtins(story).items() if name != "lines"}, print)
    raise typer.Exit(0 if story.audit_ok and story.tamper_detected else EXIT_NOT_VERIFIED)


def _play(session: Session, residents: int) -> Story:
    if session.home.folder.exists():  # an earlier demo that did not reach its end
        shutil.rmtree(session.home.folder)
    narrator = Narrator(silent=session.as_json)
    parties = city_parties()
    create_deployment(session.home, parties[0], session.home.officer_key)
    with session.office() as (office, actor):
        for party in parties[1:]:
            register_party(office, actor, party)
        stage = Stage(session, office, narrator)
        city = catalogue(stage, residents)
        authorize(stage)
        release_table(stage)
        verify_two(stage, city)
        score_model(stage)
        refuse_without_grant(stage)
        spend_the_odometer(stage)
        figures = close(stage)
        audit_ok, caught = tamper(stage)
    return Story(
        refusals=tuple(
            ToldRefusal(rule=item.rule, article=item.article, reason=item.reason, remedy=item.remedy)
            for item in stage.refusals
        ),
        audit_ok=audit_ok,
        tamper_detected=caught,
        lines=narrator.lines,
        **figures,
    )


def _again(session: Session, story: Story) -> Story:
    """The stored text, and the checks made anew on the logs as they lie there now."""
    narrator = Narrator(silent=session.as_json)
    narrator.repeat(story.lines)
    with session.office() as (office, _):
        ok = verify_audit(office).ok
        _, caught = tamper(Stage(session, office, Narrator(silent=True)))
    narrator.say(f"（再次运行：未再消耗任何隐私预算 / second run: nothing was spent again; the logs verify: {ok}）")
    return msgspec.structs.replace(story, audit_ok=ok, tamper_detected=caught)
