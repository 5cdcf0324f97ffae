"""The contrastive core against the obvious alternatives, and against an earlier commit, in one run on one machine.

    python benchmarks/contrast.py [--batch 32] [--steps 3] [--objectives 2048] [--against REV]

1. One COMET step (forward passes, four losses, backward, optimiser, running average) against a plain transcription of
   the published step: eight forward passes through ordinary convolutions, full similarity tensors. Same weights, same
   batch; the losses are compared without dropout on the same masks.
2. Each objective against its dense form in plain autograd: time, and memory above the inputs.
3. The loss of a batch that two processes share: time and memory of each, against one process that has it all.
4. With ``--against``: a step of each recipe, each objective and 3., with the ``medssl`` of that commit and with this
   one in turns. The ratio is its seconds to ours, so that 1 is as fast and more is faster; the median of the rounds.
   That of processor seconds does not suffer from what else the machine does.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.dense import OBJECTIVES, objective
from benchmarks.step import CHANNELS, LENGTH, RECIPES, comet_losses, gathered_loss, step
from benchmarks.timing import ROOT, Failed, Process, apart, in_turns, last_line, ratio, revision, table

Ratios = dict[str, float]
NAMES = {"comet_code": "step", "comet_code-bf16": "step_bf16"}  # of the ratios of part 1


def published(batch: int, steps: int) -> Ratios:
    """Compare a step with the published one."""
    kinds, ratios = ("published", *NAMES), Ratios()
    losses = apart(comet_losses, min(batch, 64))
    print(f"COMET step, [{batch}, {LENGTH}, {CHANNELS}], {steps} rounds; losses without dropout, on the same masks")
    show = table("", "seconds", "speed", "peak GB", "memory", "loss")
    with ExitStack() as stack:
        processes = {kind: stack.enter_context(Process()) for kind in kinds}
        for kind, process in processes.items():
            process(step, kind, batch)  # the first call prepares
        found = in_turns({k: partial(process, step, k, batch) for k, process in processes.items()}, steps)
    seconds = {kind: column(found[kind], "seconds") for kind in kinds}
    peaks = {kind: max(column(found[kind], "peak_gb")) for kind in kinds}
    for kind in kinds:
        speed, memory = ratio(seconds["published"], seconds[kind]), peaks[kind] / peaks["published"]
        show(kind, statistics.median(seconds[kind]), speed, peaks[kind], memory, losses[kind])
        if kind in NAMES:
            loss = losses[kind] / losses["published"]
            ratios |= {f"{NAMES[kind]}_{k}": v for k, v in (("speedup", speed), ("memory", memory), ("loss", loss))}
    return ratios


def dense(batch: int, rounds: int) -> Ratios:
    """Compare each objective with its dense form."""
    ratios = Ratios()
    print(f"\nobjectives at batch {batch}: one forward and backward pass, memory above the inputs")
    show = table("", "dense s", "ours s", "speed", "dense GB", "ours GB", "memory", "value")
    for name in OBJECTIVES:
        with Process() as first, Process() as second:
            sides = {"dense": first, "ours": second}
            found = in_turns({k: partial(process, objective, name, k, batch) for k, process in sides.items()}, rounds)
        values = [found[k][0]["value"] for k in sides]
        if abs(values[0] - values[1]) > 1e-3 * max(1.0, abs(values[0])):
            raise SystemExit(f"{name}: {values[1]} is not the dense form's {values[0]}")
        seconds = [column(found[k], "seconds") for k in sides]
        memory = [found[k][0]["gigabytes"] for k in sides]  # later rounds use again what the first one freed
        ratios |= {f"{name}_speedup": ratio(*seconds), f"{name}_memory": memory[1] / memory[0]}
        cells = (*map(statistics.median, seconds), ratio(*seconds), *memory, memory[1] / memory[0])
        show(name, *cells, values[1])
    return ratios


def shared(processes: list[Process], rows: int) -> dict[str, float]:
    """Return the loss of ``rows`` over some processes, measured in the slowest and in the largest of them."""
    with tempfile.TemporaryDirectory() as folder:
        for rank, process in enumerate(processes):
            process.ask(gathered_loss, rank, len(processes), f"{folder}/meeting", rows)
        found = [process.answer() for process in processes]
    return {key: max(each[key] for each in found) for key in ("value", "seconds", "gigabytes")}


def over_processes(rows: int, rounds: int, parent: Path | None) -> Ratios:
    """Compare the loss over two processes with that of one, and with an earlier commit."""
    print(f"\nNT-Xent of {rows} samples, forward and backward pass, one thread a process; memory above the inputs")
    show = table("", "seconds", "GB each", "time", "memory", "value")
    trees = {"one process": [ROOT], "two processes": [ROOT] * 2} | ({"two, parent": [parent] * 2} if parent else {})
    with ExitStack() as stack:
        sides = {name: [stack.enter_context(Process(tree)) for tree in each] for name, each in trees.items()}
        found = in_turns({name: partial(shared, processes, rows) for name, processes in sides.items()}, rounds)
    times, memories = Ratios(), Ratios()
    for name, mine in found.items():
        seconds, memory = column(mine, "seconds"), mine[0]["gigabytes"]  # later rounds use what the first one freed
        times[name] = ratio(seconds, column(found["one process"], "seconds"))
        memories[name] = memory / found["one process"][0]["gigabytes"]
        show(name, statistics.median(seconds), memory, times[name], memories[name], mine[0]["value"])
    ratios = {"two_processes_time": times["two processes"], "two_processes_memory": memories["two processes"]}
    if parent:
        ratios["parent_two_processes_speed"] = ratio(
            *(column(found[name], "seconds") for name in ("two, parent", "two processes"))
        )
        ratios["parent_two_processes_memory"] = memories["two processes"] / memories["two, parent"]
    return ratios


def earlier(parent: Path, batch: int, objectives: int, rounds: int) -> Ratios:
    """Compare steps and objectives with those of an earlier commit."""
    ratios = Ratios()
    print(f"\nagainst the parent: steps at batch {batch}, objectives at {objectives}, {rounds} rounds in turns")
    show = table("", "parent s", "ours s", "ratio", "processor")
    jobs: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [(name, step, (name, batch)) for name in RECIPES]
    jobs += [(name, objective, (name, "ours", objectives)) for name in OBJECTIVES if objectives]
    with Process(parent) as theirs, Process() as ours:
        for name, function, arguments in jobs:
            sides = {"parent": theirs, "ours": ours}
            try:
                for process in sides.values():
                    process(function, *arguments)  # the first call prepares
            except Failed as why:
                show(name, f"not compared: {why}")
                continue
            found = in_turns({k: partial(process, function, *arguments) for k, process in sides.items()}, rounds)
            seconds, processor = ([column(found[k], key) for k in sides] for key in ("seconds", "processor"))
            ratios |= {f"parent_{name}_speed": ratio(*seconds), f"parent_{name}_processor": ratio(*processor)}
            show(name, *map(statistics.median, seconds), ratio(*seconds), ratio(*processor))
    return ratios


def column(rounds: list[dict[str, Any]], key: str) -> list[float]:
    """Return one number of each round."""
    return [each[key] for each in rounds]


def main() -> None:
    """Run everything and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3, help="rounds of parts 1 to 3")
    parser.add_argument("--objectives", type=int, default=2048, help="batch size of parts 2 to 4; 0 leaves them out")
    parser.add_argument("--against", metavar="REV", help="a commit to compare with (part 4)")
    parser.add_argument("--rounds", type=int, default=5, help="of part 4")
    args = parser.parse_args()
    with ExitStack() as stack:
        parent = stack.enter_context(revision(args.against)) if args.against else None
        ratios = published(args.batch, args.steps)
        if args.objectives:
            ratios |= dense(args.objectives, args.steps)
            ratios |= over_processes(args.objectives, args.steps, parent)
        if parent:
            ratios |= earlier(parent, args.batch, args.objectives, args.rounds)
    last_line(ratios)


if __name__ == "__main__":
    main()
