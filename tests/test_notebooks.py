"""Every lesson there is, found by glob: it keeps the contract, and it runs in the quick profile."""

import os
import re
from pathlib import Path

import nbformat
import pytest

from avlab.course import contract, run
from avlab.datasets.lesson import SAMPLES

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks_and_their_numbers_are_their_own():
    assert NOTEBOOKS, f"no notebook in {FOLDER}"
    numbers = [path.stem[:2] for path in NOTEBOOKS]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_contract(path):
    violations = contract.check(path)
    assert not violations, "\n" + "\n".join(map(str, violations))


@pytest.mark.notebook
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_in_the_quick_profile(path, run_lesson):
    result, _ = run_lesson(path)
    assert result["status"] == "ok", "\n" + run.table({path.stem: result})


def takes_clips(path: Path) -> bool:
    cells = nbformat.read(path, as_version=4).cells
    return any("parameters" in c.metadata.get("tags", ()) and "clips =" in c.source for c in cells)


@pytest.mark.notebook
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if takes_clips(path)], ids=lambda path: path.stem)
@pytest.mark.parametrize("clips", ["samples", "events"])
def test_runs_on_media_files(path, clips, tmp_path):
    """On the rendered samples and, with AVLAB_CLIPS, on real events: every file told of, every used one shown."""
    folder = SAMPLES
    if clips == "events":
        if "AVLAB_CLIPS" not in os.environ:
            pytest.skip("AVLAB_CLIPS is not set: point it at a folder with events/*.mp4")
        folder = Path(os.environ["AVLAB_CLIPS"]) / "events"
        clips = str(folder)
    results = run.run_all([path], clips=clips, out=tmp_path, progress=False)
    assert results[path.stem]["status"] == "ok", "\n" + run.table(results)
    executed = nbformat.read(tmp_path / f"{path.stem}.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    report = "".join(output.text for output in outputs if output.output_type == "stream")
    files = [file for file in folder.iterdir() if file.suffix in (".mp4", ".mkv")]
    for file in files:
        assert re.search(rf"^(used|rejected) +{re.escape(file.name)}: ", report, flags=re.M), (
            f"{file.name} is not told of"
        )
    alts = [output.metadata.get("image/png", {}).get("alt", "") for output in outputs if "metadata" in output]
    shown = [re.search(r": (\d+) clips \(.*maps of motion, correlation", alt) for alt in alts]
    assert sum(int(found[1]) for found in shown if found) >= len(re.findall(r"^used ", report, flags=re.M))
