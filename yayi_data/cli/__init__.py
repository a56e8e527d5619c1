"""The `yayi-data` command: one file a command, each a few lines over the stage that does the work.

Stages are imported inside the commands, so that `--help` and usage errors answer at once.
"""

import signal

from yayi_data.cli.convert import convert
from yayi_data.cli.dedup import dedup
from yayi_data.cli.diff import diff
from yayi_data.cli.export import export
from yayi_data.cli.inspect import inspect
from yayi_data.cli.merge_manifests import merge_manifests
from yayi_data.cli.pack import pack
from yayi_data.cli.report import report
from yayi_data.cli.rules import rules
from yayi_data.cli.validate import validate
from yayi_data.cli.verify import verify
from yayi_data.command import call, command_line, run_main

app = command_line(
    "yayi-data",
    """Validate, convert and tokenize chat training data into Arrow shards with exact loss masks.

    Data goes to stdout, talk and progress to stderr.
    Exit codes: 0 clean, 1 findings in the data, 2 wrong usage or environment, 130 interrupted.
    """,
)
app.command()(validate)
app.command()(rules)
app.command()(convert)
app.command()(dedup)
app.command()(diff)
app.command()(pack)
app.command()(merge_manifests)
app.command()(inspect)
app.command()(verify)
app.command()(report)
app.command()(export)


def main() -> None:
    """Run the command line and exit with its code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)  # ends as tidily as Ctrl-C
    run_main(lambda arguments, _: call(app, arguments))


if __name__ == "__main__":
    main()
