"""The command line: arguments -> check -> report -> exit code."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..check import check
from ..errors import BadInput, FileError, OutOfMemory, PairError, UnprovenError, shown
from ..frameworks.sides import Progress
from ..matching import MatchPlan
from ..pairs.hub import write_hub_pair
from ..pairs.loading import load_pair
from ..pairs.pair import Pair
from ..pairs.scaffold import copy_example, write_agents, write_scaffold
from ..phases.match import match
from ..phases.trajectory import FREE_STEPS
from ..records.memory_needed import shortage
from ..records.result import schema_text
from ..records.trace import Trace
from ..report.github import workflow_commands, write_markdown
from ..report.html import write_html
from ..report.junit import write_junit
from ..report.result import Result
from ..report.terminal import print_result
from .agents import STDOUT, on_github, print_changes, with_next
from .convert.command import convert
from .doctor import as_json, examine, show
from .ending import (
    NO_VERDICT,
    Ending,
    JsonOption,
    clear,
    finish,
    json_of_an_error,
    safe_streams,
    with_progress,
)
from .golden import record, verify
from .listing import show_pairs, show_phases
from .match import WhyOption, WriteOption, show_plan
from .onnx import onnx, retie
from .options import (
    AcceptOption,
    BackendOption,
    BudgetOption,
    DeviceOption,
    ExpectOption,
    OutOption,
    PairArgument,
    PhasesOption,
    QuietOption,
    ReachOption,
    SeedOption,
    SetOption,
    StepsOption,
    StrictOption,
    VerboseOption,
    device_of,
    print_version,
    reach_of,
    seconds_of,
    settings_of,
)
from .sweep_command import sweep_pairs
from .watch import watch

BAD_INPUT = 2

app = typer.Typer(
    cls=Ending,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Says whether a Keras port of a PyTorch training setup is the same computation.",
    epilog="Exit codes: 0 equivalent, 1 different, 2 bad usage or bad input, 3 inconclusive. "
    "A pair file is Python code and runs with your rights.",
)


@app.command()
def run(
    pair: PairArgument,
    steps: StepsOption = 5,
    seed: SeedOption = 0,
    free_steps: Annotated[int | None, typer.Option(help=f"Steps of the free run; {FREE_STEPS} by default.")] = None,
    precision: Annotated[str, typer.Option(help="float64, or float64,float32.")] = "float64,float32",
    device: DeviceOption = "auto",
    keras_backend: BackendOption = None,
    phases: PhasesOption = None,
    out: OutOption = None,
    settings: SetOption = None,
    strict: StrictOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    expect: ExpectOption = False,
    accept: AcceptOption = None,
    reach: ReachOption = "default",
    budget: BudgetOption = None,
    json: JsonOption = None,
    form: Annotated[str | None, typer.Option("--format", help="github: also annotations and a job summary.")] = None,
    watch_files: Annotated[
        bool, typer.Option("--watch", help="Check again whenever a file of the pair changes; stop with Ctrl-C.")
    ] = False,
) -> None:
    """Check a pair: is the port the same computation?"""
    if form not in (None, "github"):
        raise PairError("Unknown format.", numbers=f"--format {form}; formats: github")

    with json_of_an_error(json, pair, seed, steps):
        options: dict[str, Any] = {
            "steps": steps,
            "seed": seed,
            "free_steps": free_steps,
            "precision": precision.split(","),
            "device": device_of(device),
            "keras_backend": keras_backend,
            "phases": None if phases is None else [p for p in phases.split(",") if p],
            "reach": reach_of(reach),
            "budget": seconds_of(budget),
        }
        if watch_files:
            if form is not None or json == STDOUT or expect:
                raise PairError(
                    "--watch goes with neither --format, --json - nor --expect.", todo="leave out one of them"
                )
            watch(pair, settings_of(settings), options, accept or (), out=out, json=json, quiet=quiet, verbose=verbose)

        def work(loaded: Pair, progress: Progress) -> Result:
            return check(loaded, **options, progress=progress)

        clear(out)  # also where the pair cannot be loaded
        loaded = load_pair(pair, settings_of(settings))
        loaded = replace(loaded, accept=(*loaded.accept, *(accept or ())))
        result = with_progress(loaded, work, keras_backend, out, quiet or json == STDOUT, silent=json == STDOUT)
    result = with_next(result, pair)
    if form is not None:
        on_github(result)
    finish(result, out, strict=strict, quiet=quiet, verbose=verbose, expect=expect, json=json)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Says whether a Keras port of a PyTorch training setup is the same computation."""


@app.command(name="match")
def match_parameters(
    pair: PairArgument,
    write: WriteOption = None,
    why: WhyOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    keras_backend: BackendOption = None,
    settings: SetOption = None,
) -> None:
    """Show which PyTorch parameter matches which Keras variable; --write saves it as a map."""
    loaded = load_pair(pair, settings_of(settings))

    def work(loaded: Pair, progress: Progress) -> MatchPlan:
        return match(loaded, seed=seed, device=device_of(device), keras_backend=keras_backend, progress=progress)

    plan = with_progress(loaded, work, keras_backend, None, quiet=False, writes=False)
    raise typer.Exit(show_plan(loaded, plan, write, why))


@app.command(name="list")
def list_pairs(
    phases: Annotated[bool, typer.Option("--phases", help="List the phases of a check instead.")] = False,
) -> None:
    """List the pairs under models/, or the phases of a check."""
    if phases:
        show_phases()
    else:
        show_pairs()


@app.command()
def example(
    name: Annotated[str, typer.Argument(help="Name of the example; xcheck list shows them.")] = "wrong_epsilon",
    keras_backend: BackendOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Copy an example to xcheck-examples/ and check it; exit code 0 if the verdict is the declared one."""
    path = copy_example(name, Path("xcheck-examples"))
    run(str(path), steps=2, keras_backend=keras_backend, out=out, quiet=quiet, expect=True)


@app.command()
def hub(
    backbone: Annotated[str, typer.Argument(help="Class of keras_hub.models, such as GPT2Backbone.")],
    config: Annotated[str, typer.Option(help="A config.json, or a class of transformers such as GPT2Config.")],
    tiny: Annotated[bool, typer.Option("--tiny", help="Small sizes in place of those of the configuration.")] = False,
    folder: Annotated[Path, typer.Option(help="For the pair file.")] = Path("xcheck-hub"),
    steps: StepsOption = 2,
    keras_backend: BackendOption = None,
    out: OutOption = None,
    quiet: QuietOption = False,
) -> None:
    """Check a backbone of keras_hub against its model in transformers; writes a pair file to go on with."""
    path = write_hub_pair(backbone, config, tiny, folder)
    print(f"Wrote {path}: xcheck match {path}, or xcheck convert {path} --from FILE --to FILE")
    run(str(path), steps=steps, free_steps=0, keras_backend=keras_backend, out=out, quiet=quiet)


@app.command()
def schema() -> None:
    """Print the JSON schema of result.json."""
    print(schema_text(), end="")


@app.command()
def new(
    name: Annotated[str | None, typer.Argument(help="Name of the port, and of the file.")] = None,
    agents: Annotated[bool, typer.Option("--agents", help="Write AGENTS.md: the loop for coding agents.")] = False,
) -> None:
    """Write a pair file for your own port, or instructions for coding agents."""
    if name is None and not agents:
        raise PairError("Give a name or --agents.", todo="xcheck new NAME, or xcheck new --agents")
    if agents:
        print(f"Wrote {write_agents()}.")
    if name is None:
        return
    path = write_scaffold(name)
    print(f"Wrote {path}.\nFill in the two build functions, then: xcheck run {path}")


@app.command(name="record")
def record_trace(
    pair: PairArgument,
    out: Annotated[Path, typer.Option(help="The trace to write.")],
    side: Annotated[str, typer.Option(help="The side to record; it must be the pair's reference.")] = "torch",
    steps: StepsOption = 5,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    settings: SetOption = None,
) -> None:
    """Record a golden trace of the reference, for `verify` where its framework is not installed."""
    loaded = load_pair(pair, settings_of(settings))
    _expect_side(loaded, side, loaded.reference)
    path = record(loaded, steps=steps, seed=seed, device=device_of(device)).save(out)
    print(f"Wrote {path}: {steps} steps of the {side} side of {loaded.name}.")
    print(f"Check with: xcheck verify {pair} --against {path}")


@app.command(name="verify")
def verify_trace(
    pair: PairArgument,
    against: Annotated[Path, typer.Option(help="A trace made by `xcheck record`.")],
    side: Annotated[str, typer.Option(help="The side to run.")] = "keras",
    device: DeviceOption = "auto",
    keras_backend: BackendOption = None,
    phases: PhasesOption = None,
    out: OutOption = None,
    settings: SetOption = None,
    strict: StrictOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Check one side against a golden trace; the other framework need not be installed."""
    clear(out)
    loaded = load_pair(pair, settings_of(settings))
    _expect_side(loaded, side, "keras" if loaded.reference == "torch" else "torch")
    trace = Trace.load(against)

    def work(loaded: Pair, progress: Progress) -> Result:
        chosen = None if phases is None else [p for p in phases.split(",") if p]
        return verify(
            loaded, trace, device=device_of(device), keras_backend=keras_backend, phases=chosen, progress=progress
        )

    result = with_progress(loaded, work, keras_backend, out, quiet)
    finish(result, out, strict=strict, quiet=quiet, verbose=verbose, expect=False)


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="result.json files.")],
    html: Annotated[Path | None, typer.Option(help="Write one HTML page.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a summary in Markdown.")] = None,
    github: Annotated[bool, typer.Option("--github", help="Print annotations for a GitHub workflow.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="An earlier result.json: show which inputs of the verdict changed since.")
    ] = None,
) -> None:
    """Show saved results, or write them in another format."""
    loaded = [Result.from_json(path) for path in results]
    if against is not None:
        raise typer.Exit(print_changes(loaded, Result.from_json(against)))
    if github:
        print(*workflow_commands(loaded), sep="\n")
    if html is None and junit is None and markdown is None and not github:
        for result in loaded:
            print_result(result, Console())
    for path, write in ((html, write_html), (junit, write_junit), (markdown, write_markdown)):
        if path is not None:
            try:
                print(f"Wrote {write(loaded, path)}")
            except OSError as error:
                raise FileError("The report cannot be written.", where=str(path), cause=str(error)) from error


@app.command()
def doctor(
    keras_backend: BackendOption = None,
    json: Annotated[str | None, typer.Option("--json", help="- prints the findings as one JSON object.")] = None,
) -> None:
    """Check this installation: versions, backends, devices, and whether xcheck can observe each framework."""
    if json not in (None, "-"):
        raise PairError("xcheck doctor can write JSON only to the screen.", numbers=f"--json {json}", todo="--json -")
    lines = examine(keras_backend)
    if json:
        print(as_json(lines))
    else:
        show(lines)
    raise typer.Exit(1 if any(line.todo for line in lines) else 0)


for command in (convert, onnx, retie):
    app.command()(command)
app.command(name="sweep")(sweep_pairs)


def _expect_side(pair: Pair, side: str, usable_side: str) -> None:
    if side != usable_side:
        raise PairError(
            f"The {side} side cannot be used with this command.",
            numbers=f"--side {side}; the reference of {pair.name!r} is the {pair.reference} side",
            todo=f"use --side {usable_side}, or set Pair(reference=...)",
        )


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run a command; a user error gives one message and exit code 2.

    Args:
        arguments: without the program's name; None uses sys.argv.
    """
    with safe_streams():
        try:
            app(arguments, prog_name="xcheck")  # the name in the help text, however xcheck was started
        except BadInput as error:
            if os.environ.get("XCHECK_TRACEBACK"):
                raise
            print(f"{error}", file=sys.stderr)
            sys.exit(NO_VERDICT if isinstance(error, OutOfMemory | UnprovenError) else BAD_INPUT)
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - Python would exit with 1, which means DIFFERENT
            message = shortage(error)
            if message is None:
                print(shown(traceback.format_exc()), file=sys.stderr)
                message = "This is a bug in xcheck; there is no verdict. Please report it with the lines above and the "
                message += "output of xcheck doctor."
            print(message, file=sys.stderr)
            sys.exit(NO_VERDICT)


if __name__ == "__main__":
    main()
