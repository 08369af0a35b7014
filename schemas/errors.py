"""What can go wrong, and who decides about it.

WatchkeepError
├── ConfigError        a setting is wrong: one line names the key and what to do, exit code 2
│   └── UnreachableError   a broker or database doesn't answer: it may be down, or the setting wrong
├── DecodeError        bytes from outside can't be read: answered or dead-lettered, never a crash
│   ├── FrameError         a record of the metrics topic
│   ├── RecordError        a record of another topic
│   └── RemoteWriteError   a remote-write request; carries the HTTP status
├── LogError           the log did not acknowledge a record: the caller decides, nothing is taken
├── LogAnewError       the log was made anew while it was read: the process starts again
├── StuckError         the log has records that don't come: the process starts again
├── StoreError         the database can't be reached: the caller waits, or says so
├── StoreAnewError     the database was restored under this process: it starts again
├── LeaseLostError     another process is active now: this one ends
├── DeliveryError     a notification was refused for good
└── StageError        a stage died too often: `watchkeep up` gives up
"""


class WatchkeepError(Exception):
    """The root of every error that Watchkeep raises on purpose."""


class ConfigError(WatchkeepError):
    """A setting is wrong. The message is one line: the key, what is wrong, what to do."""


class UnreachableError(ConfigError):
    """A broker or database doesn't answer: it may be down, or its address wrong."""


class DecodeError(WatchkeepError):
    """Bytes from outside can't be read."""


class FrameError(DecodeError):
    """A record of the metrics topic is no frame that this version reads."""


class RecordError(DecodeError):
    """A record of another topic doesn't follow its schema."""


class RemoteWriteError(DecodeError):
    """A remote-write request is refused.

    Attributes:
        status: the HTTP status to answer with.
        retry_after_s: when to try again; None where that is for the sender to know.
    """

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class LogError(WatchkeepError):
    """The log did not acknowledge a record."""


class LogAnewError(WatchkeepError):
    """The log was deleted and made anew while it was read: reading starts again from its place."""


class StuckError(WatchkeepError):
    """The log has records, and the consumer brings none: only a new one helps."""


class StoreError(WatchkeepError):
    """The database can't be reached; what was asked of it was not done, or can be done again."""


class StoreAnewError(WatchkeepError):
    """The database lacks what this process has written: reading starts again from its place."""


class LeaseLostError(WatchkeepError):
    """The lease of a one-active stage went to another process."""


class DeliveryError(WatchkeepError):
    """A notification could not be delivered, and trying again won't help."""


class StageError(WatchkeepError):
    """A stage died so often that starting it again is no help."""
