"""What a person reads: title and body in plain text."""

from typing import Final, NamedTuple, Protocol

from watchkeep.notifiers.decide import Reason
from watchkeep.schemas.alert import Alert
from watchkeep.schemas.text import clock_time, duration, plain

_LIVE: Final = ("@", "<!", "://", "](")


class Message(NamedTuple):
    """A message to send; plain text, safe to show."""

    title: str
    body: str
    resolved: bool


class Receiver(Protocol):
    """Somewhere to send messages to."""

    @property
    def name(self) -> str:
        """Its name in the delivery log; never its URL, which may hold secrets."""
        ...

    async def send(self, message: Message) -> None:
        """Send a message; returns only when it was taken.

        Raises:
            DeliveryError: it was not, with the reason in words.
        """
        ...


def message_of(alert: Alert, reason: Reason) -> Message:
    """Write the message that tells an alert for a reason."""
    resolved = reason is Reason.RESOLVED
    if resolved:
        title = f"RESOLVED {alert.title} after {duration(alert.duration_s or 0)}"
    else:
        title = f"FIRING {alert.title}"
    where = f"cluster {plain(alert.cluster)}, found {clock_time(alert.detected_ms)}"
    lines = [alert.explanation.summary, "", *(f"- {line}" for line in alert.explanation.lines)]
    body = "\n".join([*lines, "", f"{where}, alert {alert.alert_id} revision {alert.revision}"])
    return Message(_defused(title), _defused(body), resolved)


def blind(seconds: float, error: str) -> Message:
    """Write the message that nothing can be found any more, as the database is gone."""
    return Message(
        "Watchkeep is blind: its database is gone",
        _defused(
            f"The database has not answered for {duration(seconds)}: {plain(error, 300)}\n\n"
            "Samples are still taken in and kept in the log, and nothing of them is lost. But no "
            "alert will come until the database is back; then what was missed is caught up with."
        ),
        resolved=False,
    )


def sees_again(seconds: float) -> Message:
    """Write the message that the database is back."""
    return Message(
        "Watchkeep sees again: its database is back",
        f"It was gone for {duration(seconds)}. What was missed is being caught up with.",
        resolved=True,
    )


def _defused(text: str) -> str:
    """Keep names from becoming mentions and links: a zero-width space parts the signs.

    Chat services read `@channel`, `<!here>`, `https://...` and `[text](target)` in any text,
    whoever wrote it.
    """
    for sign in _LIVE:
        text = text.replace(sign, f"{sign[0]}\u200b{sign[1:]}")
    return text
