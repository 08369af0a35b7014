"""Whether a revision of an alert is sent to a receiver, and why. Every answer has a name."""

from collections.abc import Sequence
from enum import StrEnum

from watchkeep.schemas.alert import Alert, AlertState


class Reason(StrEnum):
    """Why a revision is sent, or isn't."""

    NEW = "new"
    RESOLVED = "resolved"
    NOT_PAGING = "not_paging"
    ALREADY_TOLD = "already_told"
    NEVER_TOLD = "never_told"

    @property
    def sends(self) -> bool:
        """Whether it is a reason to send."""
        return self in {Reason.NEW, Reason.RESOLVED}


def decide(alert: Alert, sent: Sequence[str]) -> Reason:
    """Decide for one receiver.

    Args:
        alert: the revision at hand.
        sent: the reasons of what this receiver was sent about the alert so far.
    """
    if not alert.pages:
        return Reason.NOT_PAGING
    wanted = Reason.NEW if alert.state is AlertState.FIRING else Reason.RESOLVED
    if wanted in sent:
        return Reason.ALREADY_TOLD
    if wanted is Reason.RESOLVED and Reason.NEW not in sent:
        return Reason.NEVER_TOLD
    return wanted
