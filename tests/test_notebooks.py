"""Every lesson there is, found by glob: it keeps the contract, and it runs in the quick profile."""

import os
from pathlib import Path

import pytest

from avlab.course import contract, run

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
def test_runs_in_the_quick_profile(path, tmp_path):
    # AVLAB_RUNS keeps pages and results for whoever wants to look at them afterwards
    out = Path(os.environ.get("AVLAB_RUNS", tmp_path))
    results = run.run_all([path], out=out / path.stem, progress=False)
    assert results[path.stem]["status"] == "ok", "\n" + run.table(results)
