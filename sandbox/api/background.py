"""What the API does beside answering: it has products opened, and fetches the receipts of calls now and then."""

from __future__ import annotations

import logging
import threading

from enclave_runner.contract.errors import Failed, Refused
from sandbox.api.problem import unexpected
from sandbox.workflow.call_sync import sync_calls
from sandbox.workflow.office import Office
from sandbox.workflow.standing import finish_opening, under_way

LOG = logging.getLogger("yunei.api")
SYNC_SECONDS = 5.0


class Openings:
    """Carries standing orders out, each in a thread of its own, at most one for each order."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._lock = threading.Lock()
        self._running: set[str] = set()

    def start(self, ticket_id: str) -> None:
        """Begin to carry out that order, unless it is being carried out from here already."""
        with self._lock:
            if ticket_id in self._running:
                return
            self._running.add(ticket_id)
        threading.Thread(target=self._carry_out, args=(ticket_id,), name=f"opening {ticket_id}", daemon=True).start()

    def start_all(self) -> None:
        """Carry on what an earlier process left."""
        for order in under_way(self._office):
            self.start(order.ticket_id)

    def _carry_out(self, ticket_id: str) -> None:
        try:
            finish_opening(self._office, ticket_id)
        except Refused:
            pass  # stands in the order, and in the audit log
        except Failed as failed:
            LOG.error("%s %s", failed.fault, failed.code)
        except Exception as error:
            unexpected(error)
        finally:
            with self._lock:
                self._running.discard(ticket_id)


def keep_fetching_calls(office: Office, stop: threading.Event) -> threading.Thread:
    """A thread that records the receipts of calls every few seconds, until it is told to stop."""

    def work() -> None:
        while not stop.wait(SYNC_SECONDS):
            fetch_calls(office)

    thread = threading.Thread(target=work, name="calls", daemon=True)
    thread.start()
    return thread


def fetch_calls(office: Office) -> None:
    """Record new receipts of calls. What keeps it from doing so is logged; whoever reads the meter is told."""
    try:
        sync_calls(office)
    except Refused as refused:
        LOG.error("calls are not recorded: %s", refused.rule)
    except Failed as failed:
        LOG.error("%s %s", failed.fault, failed.code)
    except Exception as error:
        unexpected(error)
