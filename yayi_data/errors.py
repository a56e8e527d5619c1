"""Bad use and bad environments are exceptions; bad data is a value (`types.Problem`)."""


class YayiError(Exception):
    """Wrong usage or environment, told in one sentence: place, found, expected, next step."""

    exit_code = 2


class DataError(YayiError):
    """The data itself prevented the output that was asked for."""

    exit_code = 1
