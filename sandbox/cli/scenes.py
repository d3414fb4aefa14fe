"""The scenes of the demo. Each goes through the ordinary workflow, as its party would; nothing here is a shortcut."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rich.table import Table

from enclave_runner.contract.errors import Failed, Refused
from enclave_runner.contract.grant import PURPOSE, Grant, Mode, Purpose, Scope
from enclave_runner.contract.job import Job, ModelJob, Predicate, QueryJob, VerificationJob
from enclave_runner.contract.privacy import RHO_UNIT, Budget, PrivacyLoss
from enclave_runner.contract.receipt import DPTable, VerificationAnswer
from enclave_runner.contract.rulebook import Refusal
from enclave_runner.contract.signing import KeyFile, seal
from sandbox.cli.census import CATALOGUE, CENSUS, exact_people_and_hours
from sandbox.cli.charts import interval_bars
from sandbox.cli.datasets import read_catalogue, run_import
from sandbox.cli.money import yuan
from sandbox.cli.narrator import Narrator
from sandbox.cli.session import Session
from sandbox.cli.tampering import tampered_copy
from sandbox.cli.times import month_of
from sandbox.client.figures import figure_of, told
from sandbox.domain.product import Product
from sandbox.domain.scenario import Scenario
from sandbox.domain.submission import SubmissionStatus, Verdict
from sandbox.pilot.catalogue import city_datasets
from sandbox.pilot.city import CitySummary, write_city
from sandbox.pilot.features import FEATURES
from sandbox.workflow.audit import verify_audit, verify_copy
from sandbox.workflow.budget import read_budget
from sandbox.workflow.consents import file_consent
from sandbox.workflow.dispatch import dispatch
from sandbox.workflow.grants import draft_grant, sign_grant
from sandbox.workflow.invoices import draft_invoice
from sandbox.workflow.meter import list_events
from sandbox.workflow.office import Actor, Office, local_actor
from sandbox.workflow.products import publish_product
from sandbox.workflow.quote import quote
from sandbox.workflow.review import review
from sandbox.workflow.scenarios import authorize_scenario
from sandbox.workflow.settle import Outcome
from sandbox.workflow.submit import submit
from sandbox.workflow.verify import verify

SEED = 20230719  # the day the measures were issued
OPERATOR, BANK = "op-city-data", "biz-bank"
WELFARE, MARKET = "grant-welfare", "grant-market"
IMPORTED = ("enterprises", "residents")
CENSUS_COLUMNS = ("age", "sex", "income", "education_num", "capital_gain", "hours_per_week")
TABLE_SQL = "SELECT sex, COUNT(*) AS people, SUM(hours_per_week) AS hours FROM adult WHERE age >= 18 GROUP BY sex"
UNGRANTED_SQL = "SELECT race, COUNT(*) AS people FROM adult GROUP BY race"
REPEATED_SQL = "SELECT income, COUNT(*) AS people FROM adult GROUP BY income"
MODEL_SQL = f"SELECT {', '.join(FEATURES)} FROM adult"  # noqa: S608 - parsed and rendered again by the enclave


@dataclass
class Stage:
    """What every scene works with, and what the scenes have brought so far."""

    session: Session
    office: Office
    narrator: Narrator
    released: list[Outcome] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def actor(self, party: str, person: str) -> Actor:
        """A person of a party."""
        return local_actor(self.office, party, person)

    def run(self, job: Job, grant: str, content: bytes | None = None) -> Outcome:
        """Submit as the operator, have it reviewed where the policy asks, dispatch."""
        submission = submit(self.office, self.actor(OPERATOR, "analyst"), grant, job, content)
        if submission.status is SubmissionStatus.IN_REVIEW:
            for reviewer in ("reviewer-a", "reviewer-b"):
                submission = review(
                    self.office,
                    self.actor("bureau", reviewer),
                    submission.submission_id,
                    Verdict.APPROVE,
                    "用途与授权一致 / within the granted purpose",
                )
                if submission.status is not SubmissionStatus.IN_REVIEW:
                    break
            self.narrator.say(f"   审查 review: approved by the bureau ({submission.status.value})")
        outcome = dispatch(self.office, submission.submission_id)
        if outcome.receipt.fault is not None:
            raise Failed("demo.job", outcome.receipt.fault)
        return outcome

    def receipt_line(self, outcome: Outcome) -> None:
        """The line under every answer: receipt, loss, price, legal basis."""
        self.released.append(outcome)
        receipt = outcome.receipt
        loss = ", ".join(f"{item.entity_set} ρ={item.rho:.6f}" for item in receipt.losses) or "none"
        self.narrator.say(
            f"   回执 receipt #{receipt.sequence} {receipt.receipt_id}: loss {loss}; "
            f"{yuan(receipt.charge.unit_price_fen)} ({receipt.charge.legal_basis})"
        )


def catalogue(stage: Stage, residents: int) -> CitySummary:
    """Three datasets of three departments, imported through the ordinary path."""
    stage.narrator.scene("编目与导入 catalogue and import: the file goes to the enclave as an open descriptor")
    folder = stage.session.home.folder / "city"
    city = write_city(folder, residents, SEED)
    officer = KeyFile.load(stage.session.home.officer_key)
    actor = stage.actor("bureau", "catalogue-clerk")
    datasets = {dataset.dataset_id: dataset for dataset in city_datasets()}
    sources = [(read_catalogue(CATALOGUE), CENSUS)]
    sources += [(datasets[name], city.file(name).path) for name in IMPORTED]
    for dataset, path in sources:
        report = run_import(stage.session, stage.office, actor, dataset, officer, path)
        rules: dict[str, int] = {}
        for item in report.rejections:
            rules[item.rule] = rules.get(item.rule, 0) + 1
        said = ", ".join(f"{rule} {count}" for rule, count in sorted(rules.items())) or "none"
        stage.narrator.say(
            f"   {report.dataset_id:12} {report.version:20} {report.accepted:>7,} rows in, "
            f"{report.rejected:>4} rejected ({said})"
        )
    return city


def authorize(stage: Stage) -> None:
    """One operator, two scenarios, two grants: public interest and industry, signed with the officer's key."""
    stage.narrator.scene("授权 grants (art. 28, 35), signed with the officer's key, which the platform does not hold")
    _grant(stage, WELFARE, Purpose.PUBLIC_INTEREST, (Mode.QUERY,), (Scope(dataset_id="adult", columns=CENSUS_COLUMNS),))
    market = (
        Scope(dataset_id="adult", columns=CENSUS_COLUMNS),
        Scope(dataset_id="enterprises", columns=("status",)),
        Scope(dataset_id="residents", columns=("has_social_insurance",)),
    )
    _grant(stage, MARKET, Purpose.INDUSTRY, (Mode.MODEL, Mode.VERIFICATION), market)


def _grant(stage: Stage, grant_id: str, purpose: Purpose, modes: tuple[Mode, ...], scopes: tuple[Scope, ...]) -> None:
    now = stage.office.clock().replace(microsecond=0)
    actor = stage.actor("bureau", "officer")
    scenario = Scenario(
        scenario_id=grant_id.replace("grant", "scenario"),
        operator_id=OPERATOR,
        title="就业公益统计" if purpose.is_free else "产业征信服务",
        purpose=purpose,
        evidence_sha256=hashlib.sha256(f"approval of {grant_id}".encode()).hexdigest(),
        recipients=() if purpose.is_free else (BANK,),
        valid_until=now + timedelta(days=365),
    )
    authorize_scenario(stage.office, actor, scenario)
    operator = stage.actor(OPERATOR, "analyst").party
    grant = Grant(
        grant_id=grant_id,
        operator_id=operator.party_id,
        operator_code=operator.credit_code,
        scenario_id=scenario.scenario_id,
        purpose=purpose,
        modes=modes,
        scopes=scopes,
        not_before=now,
        deadline=now + timedelta(days=180),
        budgets=(PrivacyLoss(entity_set="census-respondent", pico_rho=RHO_UNIT),),
        max_uses=1000,
    )
    draft_grant(stage.office, actor, grant)
    officer = KeyFile.load(stage.session.home.officer_key)
    sign_grant(stage.office, actor, grant_id, seal(grant, PURPOSE, officer))
    use = "无偿 free" if purpose.is_free else "有偿 paid"
    what = "; ".join(f"{scope.dataset_id}({len(scope.columns)} columns)" for scope in scopes)
    stage.narrator.say(f"   {grant_id}: {purpose.value}, {use}, {'+'.join(m.value for m in modes)}, {what}")


def release_table(stage: Stage) -> None:
    """A DP table under the public-interest grant, beside the exact answer: the census file is public."""
    stage.narrator.scene(f"差分隐私表 DP table: {TABLE_SQL}")
    job = QueryJob(sql=TABLE_SQL, budget=Budget(epsilon="1"))
    offered = quote(stage.office, stage.actor(OPERATOR, "analyst"), WELFARE, job)
    expected = ", ".join(f"{measure.name} ± {measure.half_width or '?'}" for measure in offered.quote.measures)
    stage.narrator.say(f"   报价 quote, before anything is spent: {expected} (95 %)")
    outcome = stage.run(job, WELFARE)
    release = outcome.release
    if not isinstance(release, DPTable):
        raise Failed("demo.job")
    exact = exact_people_and_hours()
    people, hours = (figure_of(release, measure).marks for measure in ("people", "hours"))
    table = Table()
    for column in ("sex", "people", "hours", "true people", "true hours", "error"):
        table.add_column(column, justify="left" if column == "sex" else "right")
    for counted, summed in zip(people, hours, strict=True):
        (sex,) = counted.keys
        true_people, true_hours = exact[sex]
        error = f"{(counted.value or 0) - true_people:+.0f} / {(summed.value or 0) - true_hours:+.0f}"
        table.add_row(sex, told(counted), told(summed), f"{true_people:,}", f"{true_hours:,}", error)
    stage.narrator.show(table)
    stage.receipt_line(outcome)


def verify_two(stage: Stage, city: CitySummary) -> None:
    """A bank verifies an enterprise, then a resident who has consented."""
    stage.narrator.scene("核验 verification: a bank asks, one word leaves; the identifier is stored nowhere")
    operator = stage.actor(OPERATOR, "product-manager")
    bank = stage.actor(BANK, "clerk")
    licence = Product(
        product_id="enterprise-status",
        operator_id=OPERATOR,
        grant_id=MARKET,
        title="企业登记状态核验",
        job=VerificationJob(dataset_id="enterprises", attribute="status", predicate=Predicate.EQUALS),
        needs_consent=False,
    )
    insurance = Product(
        product_id="social-insurance",
        operator_id=OPERATOR,
        grant_id=MARKET,
        title="社会保险参保核验",
        job=VerificationJob(dataset_id="residents", attribute="has_social_insurance", predicate=Predicate.EQUALS),
        needs_consent=True,
    )
    for product in (licence, insurance):
        publish_product(stage.office, operator, product)
    expires = stage.office.clock() + timedelta(days=30)
    _answer(
        stage,
        "企业 enterprise is active?",
        verify(stage.office, bank, licence.product_id, city.active_enterprise, "active"),
    )
    try:
        verify(stage.office, bank, insurance.product_id, city.insured_resident, "true")
    except Refused as refused:
        _tell_refusal(stage, refused)
    file_consent(
        stage.office, stage.actor("bureau", "consent-desk"), insurance.product_id, BANK, city.insured_resident, expires
    )
    _answer(
        stage,
        "居民 resident is insured?",
        verify(stage.office, bank, insurance.product_id, city.insured_resident, "true"),
    )


def _answer(stage: Stage, question: str, outcome: Outcome) -> None:
    if not isinstance(outcome.release, VerificationAnswer):
        raise Failed("demo.job")
    stage.narrator.say(f"   {question} → {outcome.release.answer.value}")
    stage.receipt_line(outcome)


def score_model(stage: Stage) -> None:
    """An ONNX model, trained outside, scored inside; its histogram leaves with noise."""
    stage.narrator.scene("模型 model: scikit-learn → ONNX, scored row by row in the jail, only a DP histogram leaves")
    path = stage.session.home.folder / "model.onnx"
    done = subprocess.run(  # noqa: S603 - our own module, no shell
        [sys.executable, "-P", "-m", "sandbox.pilot.model", str(CENSUS), str(path)], capture_output=True, check=False
    )
    if done.returncode != 0:
        raise Failed("demo.training")
    content = path.read_bytes()
    job = ModelJob(
        sql=MODEL_SQL,
        budget=Budget(epsilon="0.5"),
        model_sha256=hashlib.sha256(content).hexdigest(),
        output="probabilities",
        bins=5,
    )
    outcome = stage.run(job, MARKET, content)
    if not isinstance(outcome.release, DPTable):
        raise Failed("demo.job")
    marks = figure_of(outcome.release).marks
    stage.narrator.say("   people by P(income > 50K):")
    for mark, bar in zip(marks, interval_bars(list(marks)), strict=True):
        stage.narrator.say(f"   {mark.keys[0]:>8} {told(mark):>14} {bar}")
    stage.receipt_line(outcome)


def refuse_without_grant(stage: Stage) -> None:
    """A column that the grant does not name."""
    stage.narrator.scene(f"拒绝 refused: {UNGRANTED_SQL}")
    _expect_refusal(stage, QueryJob(sql=UNGRANTED_SQL, budget=Budget(epsilon="1")))


def spend_the_odometer(stage: Stage) -> None:
    """The same people are asked about until their lifetime budget is spent, whoever asks."""
    stage.narrator.scene(f"里程计 odometer: asking again and again: {REPEATED_SQL}")
    for number in range(50):  # each at another ε: the very same question is answered again at no loss
        job = QueryJob(sql=REPEATED_SQL, budget=Budget(epsilon=f"1.5{number:02d}"))
        if not _ask_again(stage, job):
            return
    raise Failed("demo.odometer")


def _ask_again(stage: Stage, job: QueryJob) -> bool:
    try:
        outcome = stage.run(job, WELFARE)
    except Refused as refused:
        _tell_refusal(stage, refused)
        return False
    if outcome.release is None:
        _tell_refusal(stage, Refused(str(outcome.receipt.rule), **outcome.receipt.facts))
        return False
    stage.receipt_line(outcome)
    return True


def _expect_refusal(stage: Stage, job: QueryJob) -> None:
    if _ask_again(stage, job):
        raise Failed("demo.not-refused")


def _tell_refusal(stage: Stage, refused: Refused) -> None:
    refusal = stage.office.pack.explain(refused)
    stage.refusals.append(refusal)
    article = f"第{refusal.article}条 art. {refusal.article}" if refusal.article != "-" else "平台规则 platform rule"
    stage.narrator.say(f"   拒绝 refused by {refusal.rule} ({article}): {refusal.reason}")
    stage.narrator.say(f"   怎样可行 to pass: {refusal.remedy}")


def close(stage: Stage) -> dict[str, Any]:
    """Meter, invoices, odometer."""
    stage.narrator.scene("计量与账单 meter and invoices, recomputable from the receipts")
    actor = stage.actor("bureau", "accountant")
    month = month_of(stage.office.clock())
    used = [event for event in list_events(stage.office, actor) if event.units]
    payers = sorted({event.payer_id for event in used})
    invoices = [draft_invoice(stage.office, actor, payer, month) for payer in payers]
    for invoice in invoices:
        lines = ", ".join(f"{line.tariff_id} {yuan(line.amount_fen)}" for line in invoice.lines) or "no paid use"
        stage.narrator.say(
            f"   {invoice.payer_id}: {lines}; total {yuan(invoice.total_fen)}; free uses {invoice.free_uses}"
        )
    readings = read_budget(stage.office, actor).readings
    for reading in readings:
        spent = reading.spent / RHO_UNIT
        stage.narrator.say(
            f"   {reading.entity_set}: ρ {spent:.6f} of {reading.lifetime / RHO_UNIT:.6f} spent for life"
        )
    return {
        "releases": len(stage.released),
        "free_uses": sum(event.amount_fen == 0 for event in used),
        "paid_uses": sum(event.amount_fen > 0 for event in used),
        "invoice_total_fen": sum(invoice.total_fen for invoice in invoices),
        "privacy_loss": {reading.entity_set: f"{reading.spent / RHO_UNIT:.12f}" for reading in readings},
    }


def tamper(stage: Stage) -> tuple[bool, bool]:
    """The real logs verify; a copy with one byte changed does not, and the place is found."""
    stage.narrator.scene("审计 audit: both Merkle logs verify; one byte changed in a copy is found")
    report = verify_audit(stage.office)
    stage.narrator.say(f"   审计日志 logs verify: {report.ok}")
    with tampered_copy(stage.session.home.control_db) as copy:
        verdict = verify_copy(copy, stage.session.home.trust)
    stage.narrator.say(
        f"   篡改拷贝 tampered copy verifies: {verdict.ok} (entry {verdict.first_bad_index}: {verdict.problem})"
    )
    return report.ok, not verdict.ok
