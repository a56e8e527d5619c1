"""A pack in N parts that know nothing of each other, as a job array runs them, and the merge that ends it.

Every part cuts the whole input, packs each Nth partition into the DIR.partial that all share, and leaves. The
first one writes beside it what the merge has to know, DIR.partial.parts.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from os import cpu_count
from pathlib import Path
from typing import NamedTuple

import orjson

from yayi_data.atomic import write_atomically
from yayi_data.errors import YayiError
from yayi_data.finish import Limits, add_up, clear, finish, write_tokenizer
from yayi_data.manifest import MANIFEST, FileFacts, Ledger, Manifest, canonical, from_json, load
from yayi_data.output import UNIT, beside, claim, locked, publish, real, refuse_existing, spool_folder
from yayi_data.partition import Unit, finished, holds, no_collection, unit_file
from yayi_data.pipeline import Packed, PackOptions, Prepared, key_of, open_inputs, prepare, run_jobs
from yayi_data.progress import Progress
from yayi_data.remote.urls import bare
from yayi_data.shard.write import shard_name
from yayi_data.unchanged import ChangedError, unchanged

_CLAIM_SECONDS = 60.0  # a claim takes less than one; whoever holds the lock for longer packs or merges


@dataclass(frozen=True, slots=True)
class Part:
    """Part `index` (from 0) of `count`: every `count`th partition, from the one of that number on."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def mark(self) -> str:
        """What the names of the part's own lock and spool folder end with."""
        return f"-{self.index}-of-{self.count}"


class PackedPart(NamedTuple):
    """A part that is done; `whole` of all `partitions` are there, those of other parts included."""

    output: Path
    part: Part
    units: list[Unit]
    ledger: Ledger
    whole: int
    partitions: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the parts of a run agree on, and the merge has to know; `facts` is the manifest before packing."""

    parts: int
    partitions: int
    paths: tuple[str, ...]
    max_drop: float | None
    overwrite: bool
    engine: str
    engine_reason: str
    tokenizer: list[FileFacts]
    facts: Manifest


def part_of(text: str) -> Part:
    """Read I/N, I from 0; YayiError where it is something else."""
    index, slash, count = text.partition("/")
    if slash and index.isdecimal() and count.isdecimal() and int(index) < int(count):
        return Part(int(index), int(count))
    raise YayiError(f"--partition {text}: expected I/N with I from 0 to N-1, as 0/3, 1/3 and 2/3")


def pack_part(options: PackOptions, part: Part) -> PackedPart:
    """Pack one part of the sources into DIR.partial; `merge` makes the folder when all parts are there.

    Raises as `pack` does, and leaves DIR.partial to the other parts when it fails.
    """
    started = time.monotonic()
    options = replace(options, output=real(options.output))
    refuse_existing(options.output, overwrite=options.overwrite)
    inputs = open_inputs(options)
    for source in inputs.sources:
        if source.one_shot:
            raise YayiError(f"{source.path}: can be read by one part only: save it to a file first")
    with no_collection(), locked(options.output, part.mark), spool_folder(options.output, part.mark) as spool:
        prepared = prepare(inputs, options, spool)
        folder = _claim(options, part, prepared)
        jobs = prepared.jobs[part.index :: part.count]
        try:
            with unchanged(inputs.stamps):
                units = run_jobs(jobs, options, prepared.tools, folder)
        except ChangedError:
            for job in jobs:  # nobody knows of which bytes they are
                unit_file(job.shard).unlink(missing_ok=True)
            raise
    whole = sum(1 for _ in folder.glob(f"*{UNIT}"))
    seconds = time.monotonic() - started
    return PackedPart(options.output, part, units, add_up(units), whole, len(prepared.jobs), seconds)


def _claim(options: PackOptions, part: Part, prepared: Prepared) -> Path:
    """Make DIR.partial, the tokenizer in it and the plan beside it, unless another part has done so."""
    output, tokenizer = options.output, prepared.tools.tokenizer
    key = key_of(prepared.facts, part.count, options.max_drop, options.overwrite)
    with locked(output, patience=_CLAIM_SECONDS):
        refuse_existing(output, overwrite=options.overwrite)  # a merge may have come in between
        if not beside(output, ".partial").exists():
            _plan_file(output).unlink(missing_ok=True)
        folder = claim(output, key)
        if not _plan_file(output).exists() or _changed(folder, _plan(output)):
            plan = _Plan(
                parts=part.count,
                partitions=len(prepared.jobs),
                paths=tuple(map(bare, options.paths)),
                max_drop=options.max_drop,
                overwrite=options.overwrite,
                engine=tokenizer.engine,
                engine_reason=tokenizer.engine_reason,
                tokenizer=write_tokenizer(folder, tokenizer),
                facts=prepared.facts,
            )
            write_atomically(_plan_file(output), canonical(asdict(plan)))
    return folder


def _changed(folder: Path, plan: _Plan) -> list[str]:
    """Return the files of the tokenizer that are not what the parts were packed with."""
    return [facts.path for facts in plan.tokenizer if not holds(folder, facts)]


def merge(output: Path) -> Packed:
    """Make the folder `output` of the parts in DIR.partial: byte for byte what one run would have made.

    Raises YayiError where a part is missing or still running, DataError where more was dropped than the
    parts' --max-drop allows; both leave the parts as they are. A merge that was killed can be repeated.
    """
    started = time.monotonic()
    output = real(output)
    folder = beside(output, ".partial")
    with locked(output):
        plan = _plan(output)
        with _no_part_running(output, plan.parts):
            if folder.exists():
                refuse_existing(output, overwrite=plan.overwrite)
                whole = _finished(folder, plan)
                publish(output, overwrite=plan.overwrite)
            else:
                whole = _published(output, plan)
                beside(output, ".partial.key").unlink(missing_ok=True)
            for i in range(plan.parts):
                shutil.rmtree(beside(output, f".partial.spool{Part(i, plan.parts).mark}"), ignore_errors=True)
            _plan_file(output).unlink()
    return Packed(output, whole, plan.engine, plan.engine_reason, time.monotonic() - started)


def _published(output: Path, plan: _Plan) -> Manifest:
    """Return the manifest of a folder that a merge published before it was killed."""
    whole = load(output) if (output / MANIFEST).exists() else None
    made_from = ("sources", "options", "template", "tokenizer")
    if whole is None or any(getattr(whole, name) != getattr(plan.facts, name) for name in made_from):
        raise YayiError(f"{beside(output, '.partial')}: the parts are gone; pack them again")
    return whole


def _plan_file(output: Path) -> Path:
    return beside(output, ".partial.parts")


def _plan(output: Path) -> _Plan:
    """Read what the parts left beside DIR.partial."""
    folder = beside(output, ".partial")
    try:
        content = orjson.loads(_plan_file(output).read_bytes())
        content["facts"] = from_json(content["facts"])
        content["paths"] = tuple(content["paths"])
        content["tokenizer"] = [FileFacts(**facts) for facts in content["tokenizer"]]
        return _Plan(**content)
    except FileNotFoundError:
        if folder.exists():
            found = "was left by a run without --partition: repeat that run to finish it"
        elif (output / MANIFEST).exists():
            found = f"there are no parts, and {output} is packed already"
        else:
            found = f"there are no parts: `yayi-data pack --partition I/N --output {output}` makes them"
        raise YayiError(f"{folder}: {found}") from None
    except (ValueError, TypeError, LookupError) as error:
        again = f"delete it and {folder}, then pack the parts again"
        raise YayiError(f"{_plan_file(output)}: is damaged; {again}") from error


@contextmanager
def _no_part_running(output: Path, parts: int) -> Iterator[None]:
    """Hold the locks that parts have left, so that none writes meanwhile; YayiError where one is running."""
    with ExitStack() as held:
        for i in range(parts):
            mark = Part(i, parts).mark
            if beside(output, f".partial.lock{mark}").exists():
                held.enter_context(locked(output, mark))
        yield


def _finished(folder: Path, plan: _Plan) -> Manifest:
    if (folder / MANIFEST).is_file():  # written last, by a merge that was killed before it published
        whole = load(folder)
        clear(folder, whole)
        return whole
    if changed := _changed(folder, plan):
        raise YayiError(f"{folder / changed[0]}: is missing or was changed; run any part again, then merge")
    units = _units(folder, plan)
    return finish(folder, plan.facts, units, plan.tokenizer, Limits(plan.paths, plan.max_drop))


def _units(folder: Path, plan: _Plan) -> Sequence[Unit]:
    """Return the units of all partitions, hashes checked; YayiError names the parts to run again."""
    shards = [folder / shard_name(number) for number in range(plan.partitions)]
    units = []
    with ThreadPoolExecutor(cpu_count()) as hashing, Progress("checking", len(shards)) as progress:
        for unit in hashing.map(finished, shards):
            units.append(unit)
            progress.advance(1)
    missing = [number for number, unit in enumerate(units) if unit is None]
    if missing:
        again = sorted({number % plan.parts for number in missing})
        names = ", ".join(str(Part(i, plan.parts)) for i in again)
        raise YayiError(
            f"{folder}: {len(missing)} of {len(shards)} partitions are missing or damaged; "
            f"run the parts again that make them, --partition {names}, then merge"
        )
    return [unit for unit in units if unit is not None]
