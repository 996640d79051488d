"""`avlab lab · run · check · calibrate · doctor · world · course`: the commands of the workbench."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from avlab.start import PROFILES

PROFILE = click.option("--profile", type=click.Choice(PROFILES), default="quick", show_default=True)


class _Clips(click.Path):
    """A word that lessons know, or a path that exists."""

    def convert(self, value: str, parameter: click.Parameter | None, context: click.Context | None) -> str:
        return value if value in ("world", "samples") else super().convert(value, parameter, context)


CLIPS = click.option(
    "--clips", type=_Clips(exists=True, resolve_path=True), help='"world", "samples", or your own: a folder or file.'
)


@click.group()
@click.version_option(package_name="avlab")
def main() -> None:
    """A notebook-first workbench for deep audio-visual correlation learning."""


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), default=8888, show_default=True)
@click.option("--no-browser", is_flag=True, help="Only serve; the address with its token is printed.")
def lab(port: int, no_browser: bool) -> None:
    """Open JupyterLab on the first lesson, for this machine alone."""
    from avlab.course.run import project

    try:
        folder = project()
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from None
    lesson = "notebooks/00_start_here.ipynb"
    if not (folder / lesson).is_file():
        raise click.ClickException(f"{folder / lesson} is missing: run avlab inside a complete clone of the project")
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", f"--port={port}"]
    command += [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{lesson}"]
    command += ["--no-browser"] if no_browser else []
    # nothing of it needs a network: no extension store, no news, no check for updates
    command += ["--LabApp.extension_manager=readonly", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container; it listens to this machine alone
        command.append("--allow-root")
    sys.stdout.flush()
    os.execv(sys.executable, command)  # not a child: whoever stops this command stops the server


@main.command()
@click.argument("notebooks", nargs=-1)
@PROFILE
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Notebooks at a time.")
@CLIPS
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: runs/ in the project.")
def run(notebooks: tuple[str, ...], profile: str, seed: int, jobs: int, clips: str | None, out: Path | None) -> None:
    """Run lessons (01, or a path; all if none is named), write results.json and a page of each."""
    from avlab.course import run as runner

    try:
        paths = runner.find(notebooks)
        out = out or runner.project() / "runs"
        results = runner.run_all(paths, profile=profile, seed=seed, clips=clips, out=out, jobs=jobs)
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(runner.table(results))
    click.echo(f"\nresults and pages: {out}")
    sys.exit(any(result["status"] != "ok" for result in results.values()))


@main.command()
@click.argument("notebooks", nargs=-1)
def check(notebooks: tuple[str, ...]) -> None:
    """Check lessons (all if none is named) against the contract, without running them."""
    from avlab.course import contract, run

    try:
        paths = run.find(notebooks)
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from None
    violations = [violation for path in paths for violation in contract.check(path)]
    for violation in violations:
        click.echo(str(violation))
    click.echo(f"{len(paths)} notebooks, {len(violations)} violations")
    sys.exit(bool(violations))


@main.command()
@click.argument("notebook")
@click.option("--seeds", type=click.IntRange(3), default=10, show_default=True)
@PROFILE
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Seeds at a time.")
def calibrate(notebook: str, seeds: int, profile: str, jobs: int) -> None:
    """Run a lesson over seeds and store what its outcomes are, as the baseline of later runs."""
    from avlab.course import outcomes, run

    try:
        (path,) = run.find([notebook])
        summary = run.calibrate(path, seeds=range(seeds), profile=profile, jobs=jobs)
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    for name, known in summary["outcomes"].items():
        click.echo(f"{name}: mean {known['mean']:.4g}, sd {known['sd']:.3g}, [{known['low']:.4g}, {known['high']:.4g}]")
    failing = {name: bad for part in ("expectations", "controls") for name, bad in summary[part].items() if bad}
    for name, bad in failing.items():
        click.echo(f"FAILED in {len(bad)} of {seeds} seeds ({', '.join(map(str, bad))}): {name}")
    if failing:
        raise click.ClickException("nothing stored: what a lesson states must hold for every seed")
    place = path.parents[1] / "tests" / "baselines" / f"{path.stem}.json"
    outcomes.save(place, path.stem, profile, summary)
    click.echo(f"stored in {place}")


@main.command()
def doctor() -> None:
    """Say whether this machine is ready, and what to do where it is not."""
    from avlab.course import doctor as examiner

    lines = examiner.examine()
    click.echo(examiner.report(lines))
    sys.exit(any(line.ok is False for line in lines))


@main.group()
def world() -> None:
    """The controllable audio-visual world."""


@world.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--clips", type=click.IntRange(1, 100_000), default=20, show_default=True)
@click.option("--level", default="L1", show_default=True, help="How hard it is; an unknown one lists them.")
@click.option("--size", type=click.IntRange(1), default=64, show_default=True, help="Pixels a side.")
@click.option("--seconds", type=click.FloatRange(0), default=2.0, show_default=True, help="Length of a clip.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--split", default="iid", show_default=True, help="An unknown one lists them.")
@click.option("--kinds", help="Names with commas between them. Default: all.")
def export(folder: Path, clips: int, kinds: str | None, **settings: Any) -> None:
    """Write clips of the world as mp4 files, with their truth as JSON beside them."""
    from avlab import world as worlds

    try:
        worlds.export(folder, clips=clips, kinds=kinds.split(",") if kinds else None, **settings)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{clips} clips in {folder}")


@world.command()
@click.argument("kinds", nargs=-1)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path),
    help="A page (.html) with sound, or a picture (.png). Default: runs/world.html in the project.",
)  # fmt: skip
@click.option("--size", type=click.IntRange(1), default=96, show_default=True, help="Pixels a side.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def show(kinds: tuple[str, ...], out: Path | None, size: int, seed: int) -> None:
    """Show KINDS of things (all if none is named) at three sizes with their laws, and what one cause changes."""
    from avlab.course.run import project
    from avlab.show import gallery
    from avlab.show.bundle import png

    settings = {"kinds": kinds or None, "size": size, "seed": seed}
    try:
        out = out or project() / "runs" / "world.html"
        if out.suffix not in (".html", ".png"):
            raise ValueError(f"{out} must end with .html (a page) or .png (a picture)")
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".png":
            out.write_bytes(png(gallery.contact_sheet(**settings), colours=256))
        else:
            gallery.gallery(**settings).to_html(out)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(str(out))


@main.group()
def course() -> None:
    """The lessons as a course to give."""


@course.command()
@click.argument("notebooks", nargs=-1)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Default: runs/course in the project.")
@click.option(
    "--runs", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="What `avlab run` wrote before. Default: the lessons are run now.",
)  # fmt: skip
@click.option("--nbgrader", is_flag=True, help="Write source assignments for nbgrader too.")
def build(notebooks: tuple[str, ...], out: Path | None, runs: Path | None, nbgrader: bool) -> None:
    """Make of lessons (01, or a path; all if none is named) editions for students and teachers, slides and a site."""
    from avlab.course import editions
    from avlab.course import run as runner

    try:
        paths = runner.find(notebooks)
        out = out or runner.project() / "runs" / "course"
        if runs is None:
            runs = out / "runs"
            results = runner.run_all(paths, out=runs)
            if any(result["status"] != "ok" for result in results.values()):
                raise ValueError(f"{runner.table(results)}\n\nnothing was built: a lesson failed")
        written = editions.build(paths, runs, out, nbgrader=nbgrader)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    size = sum(path.stat().st_size for path in written) / 1e6
    click.echo(f"{len(written)} files, {size:.1f} MB, in {out}; the site begins at {out / 'site' / 'index.html'}")


if __name__ == "__main__":
    main()
