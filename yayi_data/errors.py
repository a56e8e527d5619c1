"""Bad use and bad environments are exceptions; bad data is a value (`types.Problem`)."""


class YayiError(Exception):
    """Wrong usage or environment, told in one sentence: place, found, expected, next step."""

    exit_code = 2


class DataError(YayiError):
    """The data itself prevented the output that was asked for."""

    exit_code = 1


class ConversionError(DataError):
    """A conversation holds what the target dialect cannot; `reason` is the ledger's word for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
