"""The doctor at the gateway: does it answer, who tries to send, and what becomes of that."""

import re
import socket
from collections.abc import Iterator, Mapping
from typing import Final

from watchkeep.schemas.settings import Gateway
from watchkeep.schemas.text import duration, plain
from watchkeep.streams.doctor_ask import SILENCE, Answer
from watchkeep.streams.findings import Finding, Level
from watchkeep.streams.intake import QUIET
from watchkeep.streams.known_series import DROPPED
from watchkeep.streams.native_histograms import GAUGE

STAGE: Final = "gateway"
# From such a part of a limit on it is told.
_NEAR: Final = 0.8
_MIB: Final = 1024 * 1024
_SETTINGS_OF: Final = (
    (re.compile(r"more than (\d+) active series"), "active_series_max"),
    (re.compile(r"more than (\d+) new series a minute"), "new_series_per_minute"),
)
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - Nothing is bound here.
_LOOPBACK: Final = re.compile(r"127\.|::1$|localhost$")

_CREDENTIALS: Final = frozenset(
    {
        "no credentials",
        "wrong credentials",
        "malformed credentials",
        "unknown kind of credentials",
        "unknown certificate",
    }
)
_TURNED_AWAY: Final[Mapping[str, str]] = {
    "wrong credentials": "compare its secret with that of gateway.senders or gateway.auth; the "
    "gateway reads secrets at its start, so start it again after a change",
    "malformed credentials": "its header isn't what basic auth is: set basic_auth with username "
    "and password_file, and not authorization",
    "unknown certificate": "name it in [[gateway.senders]] as certificate = its common name, DNS "
    "name or URI",
    "TLS handshake failed": "see that its url begins with https://, that its tls_config.ca_file "
    "has signed gateway.tls.certificate, and that gateway.tls.client_ca, if set, its own",
    "too many samples": "it waits and sends again, so nothing is lost unless that lasts: raise the "
    "sender's samples_per_s, or have it send less",
    "too many connections": "raise gateway.connections_max, or see who opens so many",
    "no room for the body": "it sends again: raise gateway.bodies_max_mb, or have senders use "
    "fewer max_shards",
    "body too slow": "it sends again: see the network between, or raise gateway.request_timeout_s",
    "body cut off": "see whether the sender, or a proxy between, ends connections",
    "answer not read": "see the network between, and whether that sender is overloaded",
    "malformed request": "a sender whose url begins with https:// looks like that to a gateway "
    "without TLS: give it http://, or set gateway.tls",
}
_REFUSED: Final[Mapping[str, str]] = {
    "active_series_max": "drop what nobody needs with [[gateway.relabel]], or raise it",
    "new_series_per_minute": "find the label that changes all the time and remove it, or raise it",
    "no metric name": "a rule of [[gateway.relabel]], or of the sender, takes __name__ away",
    "duplicate label name": "see which exporter or relabelling of the sender writes a label twice",
    "samples and native histograms in one": "see which sender makes such requests",
}
_CLUSTERS: Final = (
    "gateway.cluster_label, pair_labels or replica_labels name a label that differs from series "
    "to series; name external_labels of the senders"
)
_OTHER_REFUSED: Final = "see which sender it is: it was answered 400, and its log has the words"


def elsewhere(answer: Answer, other: str) -> Finding:
    """Tell that `up` runs with other settings than these.

    Args:
        answer: of where these say that the gateway is.
        other: where that of `up` is.
    """
    told = f"{answer.where} is where it should be by the settings: {answer.trouble}; that of the "
    told += f"`watchkeep up` that runs here is at {other}"
    advice = "start `watchkeep up` again, so that it takes these settings, or ask with its own"
    return Finding(Level.WARN, STAGE, told, advice)


def of_gateway(answer: Answer, settings: Gateway, now_ms: int, *, heard: bool) -> list[Finding]:
    """Judge what the gateway tells.

    Args:
        answer: it.
        settings: what it should run with.
        now_ms: the time.
        heard: detect hears senders now, so somebody's samples arrive.
    """
    if answer.trouble:
        return [_silent(answer, heard=heard)]
    since = ""
    if start_s := answer.value("process_start_time_seconds"):
        since = f", up for {duration(max(0.0, now_ms / 1000 - start_s))}"
    told = f"{answer.where} answers{since}; of several gateways only this one was asked"
    found = [Finding(Level.OK, STAGE, told)]
    if answer.not_ready:
        advice = "senders are told to come again, so nothing is lost yet; see what the broker says"
        told = f"it can't do its work: {plain(answer.not_ready)}"
        found.append(Finding(Level.BAD, STAGE, told, advice, blocks=True))
    return [*found, *_requests(answer, settings, heard=heard), *_rooms(answer, settings)]


def _silent(answer: Answer, *, heard: bool) -> Finding:
    told = f"{answer.where} is where it should be by the settings: {answer.trouble}"
    if heard:
        advice = "data arrives all the same, so it runs elsewhere: ask `watchkeep doctor` there too"
        return Finding(Level.WARN, STAGE, told, advice)
    advice = "start `watchkeep up` or `watchkeep gateway`; its log tells why if it ended"
    if answer.trouble != SILENCE:
        advice = "start the gateway again with these settings, or see what else listens there"
    return Finding(Level.BAD, STAGE, told, advice, blocks=True)


def _requests(answer: Answer, settings: Gateway, *, heard: bool) -> Iterator[Finding]:
    status = answer.by("watchkeep_remote_write_requests_total", "status")
    turned = answer.by("watchkeep_turned_away_total", "reason")
    refused = answer.by("watchkeep_refused_series_total", "reason")
    accepted = round(answer.value("watchkeep_accepted_samples_total"))
    if not status and not turned:
        yield _nobody(settings, heard=heard)
        return
    # What comes through says that most is well; if nothing does, this is why.
    level = Level.WARN if accepted or heard else Level.BAD
    reasons = [
        *_turned_away(turned, settings, level),
        *_answered(status, turned, refused, settings, level),
        *_refused(refused, settings, level),
    ]
    if accepted:
        told = f"{_many(accepted, 'sample')} accepted, of {_many(status.total())}"
        yield Finding(Level.OK, STAGE, told)
    yield from reasons
    if not accepted and level not in [one.level for one in reasons]:
        yield _nothing_accepted(status, refused, level)


def _nobody(settings: Gateway, *, heard: bool) -> Finding:
    if heard:
        told = "nobody has sent to this one; detect hears senders, so another gateway has them"
        return Finding(Level.OK, STAGE, told)
    told = "nobody has tried to send since it started"
    return Finding(Level.BAD, STAGE, told, snippet(settings), blocks=True)


def _nothing_accepted(
    status: Mapping[str, int], refused: Mapping[str, int], level: Level
) -> Finding:
    count = sum(status.values())
    if refused.get(DROPPED):
        told = (
            f"{_many(count)} came, and rules of gateway.relabel have dropped all they held: "
            f"{refused[DROPPED]:,} times a series"
        )
        advice = "see docs/gateway.md: `keep` drops all that it doesn't match, and expressions "
        advice += "must match the whole value"
        return Finding(level, STAGE, told, advice, blocks=True)
    told = f"{_many(count)} came, and none brought a sample"
    advice = "see whether write_relabel_configs of the sender drop all, or it sends only metadata"
    return Finding(level, STAGE, told, advice, blocks=True)


def _turned_away(turned: Mapping[str, int], settings: Gateway, level: Level) -> Iterator[Finding]:
    for reason, count in turned.items():
        if reason == "body too large":
            continue  # It is told with its status.
        told = f"{count:,} turned away: {plain(reason)}"
        advice = _TURNED_AWAY.get(reason, "see the gateway's log, which tells who it was")
        if reason in _CREDENTIALS:
            told = f"{_many(count)} answered 401: {plain(reason)}"
        if reason in {"no credentials", "unknown kind of credentials"}:
            advice = snippet(settings)
        yield Finding(level, STAGE, told, advice)


def _answered(
    status: Mapping[str, int],
    turned: Mapping[str, int],
    refused: Mapping[str, int],
    settings: Gateway,
    level: Level,
) -> Iterator[Finding]:
    def found(code: str, words: str, advice: str) -> Finding:
        return Finding(level, STAGE, f"{_many(status[code])} answered {code}: {words}", advice)

    if status.get("415"):
        yield found(
            "415",
            "their content isn't remote write",
            "have a Prometheus, or what speaks its remote write 1.0 or 2.0 with snappy, send here",
        )
    if status.get("400") and not set(refused) - QUIET and not turned.get("body cut off"):
        yield found(
            "400",
            "they can't be read",
            "the gateway's log tells who sends and what is wrong with it",
        )
    if status.get("413"):
        yield found(
            "413",
            f"larger than gateway.max_body_mb = {settings.max_body_mb:g}",
            "have senders put fewer max_samples_per_send into a request, or raise it",
        )
    if status.get("503") and not {"no room for the body", "body too slow"} & set(turned):
        yield found(
            "503",
            "the log was out of reach, or too much waited for it",
            "senders send these again; see the broker if it goes on",
        )


def _refused(refused: Mapping[str, int], settings: Gateway, level: Level) -> Iterator[Finding]:
    for reason, count in refused.items():
        if reason == DROPPED:
            continue  # As somebody wanted it; that it is all is told elsewhere.
        told, key = f"{count:,} times a series refused: {plain(reason)}", reason
        for pattern, name in _SETTINGS_OF:
            if pattern.fullmatch(reason):
                told += f", gateway.{name} = {getattr(settings, name):,}"
                key = name
        advice = _REFUSED.get(key, _OTHER_REFUSED)
        if reason.endswith("clusters and replicas"):
            advice = _CLUSTERS
        if reason == GAUGE:
            yield Finding(Level.OK, STAGE, f"{told}; these aren't watched yet")
        else:
            yield Finding(level, STAGE, told, advice)


def _rooms(answer: Answer, settings: Gateway) -> Iterator[Finding]:
    """Tell how full things are, and what happens when they are."""
    waiting = answer.value("watchkeep_waiting_bytes")
    if waiting >= _NEAR * settings.waiting_mb * _MIB:
        told = f"{waiting / _MIB:.0f} MB wait for the log, of {settings.waiting_mb:g} at most"
        advice = "beyond gateway.waiting_mb senders get 503: see why the broker takes so little"
        yield Finding(Level.WARN, STAGE, told, advice)
    elif waiting:
        yield Finding(Level.OK, STAGE, f"{waiting / _MIB:.1f} MB wait for the log")
    series = round(answer.value("watchkeep_active_series"))
    told = f"{series:,} series are known, of gateway.active_series_max = "
    told += f"{settings.active_series_max:,}"
    if series >= _NEAR * settings.active_series_max:
        advice = "further ones will be refused: drop what nobody needs, or raise it"
        yield Finding(Level.WARN, STAGE, told, advice)
    elif series:
        yield Finding(Level.OK, STAGE, told)
    connections = round(answer.value("watchkeep_connections"))
    if connections >= _NEAR * settings.connections_max:
        told = f"{connections:,} connections are open, of gateway.connections_max = "
        advice = "idle ones will be closed: raise it, or see who opens so many"
        yield Finding(Level.WARN, STAGE, f"{told}{settings.connections_max:,}", advice)


def _many(count: int, what: str = "request") -> str:
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"


def write_url(settings: Gateway) -> str:
    """Tell where senders are to write to."""
    host = socket.gethostname() if settings.host in _EVERYWHERE else settings.host
    host = f"[{host}]" if ":" in host else host
    scheme = "https" if settings.tls.certificate else "http"
    return f"{scheme}://{plain(host)}:{settings.port}/api/v1/write"


def snippet(settings: Gateway) -> str:
    """Write what makes a Prometheus send here: its address, TLS and how it proves who it is."""
    lines = ["in prometheus.yml:", "     remote_write:", f"       - url: {write_url(settings)}"]
    auth, senders = settings.auth, settings.senders
    ways = []
    if auth.bearer_token.get_secret_value() or any(
        s.bearer_token.get_secret_value() or s.bearer_token_file for s in senders
    ):
        ways.append("authorization: { credentials_file: FILE_WITH_ITS_TOKEN }")
    if auth.user or any(sender.user for sender in senders):
        ways.append("basic_auth: { username: ITS_USER, password_file: FILE_WITH_ITS_PASSWORD }")
    certificate = any(sender.certificate for sender in senders) or (
        settings.tls.client_ca and not ways
    )
    if settings.tls.certificate:
        own = ", cert_file: ITS_CERTIFICATE, key_file: ITS_KEY" if certificate else ""
        lines.append(f"         tls_config: {{ ca_file: WHO_SIGNED_THE_GATEWAY_S{own} }}")
    for n, way in enumerate(ways):
        either = "  # or, as the sender is set up:" if n or certificate else ""
        lines += [f"        {either}"] if either else []
        lines.append(f"         {way}")
    if _LOOPBACK.match(settings.host):
        lines.append(
            f'   {settings.host} is this machine alone: gateway.host = "0.0.0.0" lets others in'
        )
    return "\n".join(lines)
