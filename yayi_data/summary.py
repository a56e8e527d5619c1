"""The summary of a packed folder: what `pack` and `inspect` print, as JSON or for a person."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rich is slow to import, and JSON needs none of it
    from rich.table import Table
    from rich.text import Text

from yayi_data.console import json_text, one_line, say
from yayi_data.finish import DROPPED
from yayi_data.manifest import Ledger, Manifest
from yayi_data.parts import PackedPart
from yayi_data.pipeline import Packed


def summary(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest's summary as the JSON object that scripts rely on."""
    return {
        "rows": manifest.rows,
        "tokens": manifest.tokens,
        "supervised_tokens": manifest.supervised_tokens,
        "shards": len(manifest.shards),
        "ledger": _ledger(manifest.ledger),
        "domains": {
            name: {
                "rows": counts.rows,
                "tokens": counts.tokens,
                "supervised_tokens": counts.supervised_tokens,
            }
            for name, counts in manifest.domains.items()
        },
        "tokenizer": {
            "fingerprint": manifest.tokenizer.fingerprint,
            "control_ids": manifest.tokenizer.control_ids,
        },
    }


def _ledger(ledger: Ledger) -> dict[str, Any]:
    return {
        "read": ledger.read,
        "kept": ledger.kept,
        "dropped": ledger.dropped,
        "truncated": ledger.truncated,
    }


def print_packed(packed: Packed, *, as_json: bool) -> None:
    """Print what a pack made, and which tokenizer engine ran, as JSON or for a person."""
    if as_json:
        figures = summary(packed.manifest)
        engine = {"engine": packed.engine, "engine_reason": packed.engine_reason}
        figures["tokenizer"] = engine | figures["tokenizer"]
        output = {"output": str(packed.output), **figures, "seconds": round(packed.seconds, 2)}
        print(json_text(output, indent=None), end="")
    else:
        from rich.console import Console

        console = Console(highlight=False)
        console.print(describe(str(packed.output), packed.manifest), soft_wrap=True)
        console.print(domain_table(packed.manifest, console.width))
    say(f"tokenizer engine: {packed.engine} ({packed.engine_reason}); {packed.seconds:.1f} s")
    for hint in hints(packed.manifest, f"{packed.output}/{DROPPED}"):
        say(hint)


def print_part(done: PackedPart, *, as_json: bool) -> None:
    """Print what one part of a pack made, as JSON or for a person, and what comes next."""
    shards = [unit.shard for unit in done.units]
    rows, tokens = sum(shard.rows for shard in shards), sum(shard.tokens for shard in shards)
    if as_json:
        figures = {
            "output": str(done.output),
            "partition": str(done.part),
            "rows": rows,
            "tokens": tokens,
            "supervised_tokens": sum(shard.supervised_tokens for shard in shards),
            "shards": len(shards),
            "ledger": _ledger(done.ledger),
            "seconds": round(done.seconds, 2),
        }
        print(json_text(figures, indent=None), end="")
    else:
        made = f"{_count(rows, 'conversation')} in {_count(len(shards), 'shard')}, {_count(tokens, 'token')}"
        print(one_line(f"{done.output}: part {done.part}, {made}"))
    say(f"partitions packed by all parts so far: {done.whole} of {done.partitions}; {done.seconds:.1f} s")
    say(f"when every part is done: yayi-data merge-manifests {done.output}")


def hints(manifest: Manifest, drops: str | None = None) -> Iterator[str]:
    """Yield what to know about records that are not in the output as they were; `drops` lists the lines."""
    ledger, options = manifest.ledger, manifest.options
    if ledger.truncated:
        yield f"cut {_count(ledger.truncated, 'conversation')} to --max-length {options['max_length']}"
    if ledger.dropped:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in ledger.dropped.items())
        where = f"; {drops} has the line of each" if drops else ""
        yield f"dropped {ledger.read - ledger.kept:,} of {_count(ledger.read, 'record')} ({reasons}){where}"
    if "too-long" in ledger.dropped:
        cutting = ", --on-long truncate cuts them" if options["on_long"] == "drop" else ""
        yield f"too-long: more than {options['max_length']} tokens; --max-length allows longer ones{cutting}"


def describe(name: str, manifest: Manifest) -> "Text":
    """Return the lines above the table: what the folder holds, and where every record went."""
    from rich.text import Text

    ledger = manifest.ledger
    share = manifest.supervised_tokens / manifest.tokens if manifest.tokens else 0
    lines = [
        f"{name}: {manifest.rows:,} conversations in {_count(len(manifest.shards), 'shard')}, "
        f"template {manifest.template.name}",
        f"Tokens: {manifest.tokens:,}, of which {manifest.supervised_tokens:,} supervised ({share:.1%})",
        f"Records: {ledger.read:,} read = {ledger.kept:,} kept + {ledger.read - ledger.kept:,} dropped"
        + "".join(f", {reason} {count:,}" for reason, count in ledger.dropped.items()),
    ]
    return Text("\n".join(one_line(line) for line in lines))


_NARROW = 60


def domain_table(manifest: Manifest, width: int) -> "Table":
    """Return the table of domains, the largest first, with shorter words where `width` columns are few."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("domain", overflow="fold")
    for heading in ("conversations" if width >= _NARROW else "rows", "tokens", "supervised"):
        table.add_column(heading, justify="right", no_wrap=True)  # long names give way, figures do not
    for name, counts in sorted(manifest.domains.items(), key=lambda item: -item[1].tokens):
        share = f"{counts.supervised_tokens / counts.tokens:.1%}"
        table.add_row(Text(one_line(name)), f"{counts.rows:,}", f"{counts.tokens:,}", share)
    return table


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
