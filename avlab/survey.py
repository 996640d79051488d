"""The survey as data: its concepts, references, claims and tables, and which lesson teaches what.

Reads `data/survey/` of the repository (what the columns mean: `data/survey/README.md`), so the package has to be
installed in place, as `make lab` does. Numbers of references are those of the survey's list.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[1]
TABLES = {1: "table1_methods", 2: "table2_audioset", 3: "table3_action_recognition", 4: "table4_datasets"}
LARGEST_NOTEBOOK = 20_000_000  # bytes; a lesson has at most 150 kB, an executed one a few MB


def concepts() -> pd.DataFrame:
    """The 493 nodes of the survey in its order: id, title, kind, node_type, parent, references (a list), description.

    `parent` is the id of the node above, None for the eleven top sections and appendices. `kind` is what a node is
    about (concept, architecture, objective, dataset, metric, claim, direction), `node_type` its form in the text
    (section, item, equation, figure, ...).

    >>> nodes = concepts()
    >>> len(nodes), nodes.set_index("id").loc["sec3.2", "title"]
    (493, '3.2 Objective functions')
    """
    return pd.DataFrame(json.loads(_file("concepts.json").read_text(encoding="utf-8"))["nodes"])


def references() -> pd.DataFrame:
    """The survey's 199 references: number, first_author, authors_short, year, title, venue, url_or_doi, note.

    >>> references().set_index("number").loc[9, "title"]
    'Look, listen and learn'
    """
    return pd.read_csv(_file("references.csv"))


def claims() -> pd.DataFrame:
    """What the survey claims, 117 rows, each with the variables and a sketch of the experiment that would test it.

    >>> claims().difficulty.value_counts().to_dict()
    {'easy': 74, 'medium': 40, 'hard': 3}
    """
    return pd.read_csv(_file("claims.csv"), dtype={"section": str})


def table(number: int) -> pd.DataFrame:
    """Table 1 (methods), 2 (AudioSet), 3 (HMDB-51 and UCF-101) or 4 (data sets) of the survey, as printed, with notes.

    Scores of different rows were often measured in different ways: read the `note`, `issue` and `flag` columns before
    comparing. Raises `ValueError` for another number.

    >>> [len(table(n)) for n in (1, 2, 3, 4)]
    [89, 41, 73, 47]
    """
    if number not in TABLES:
        raise ValueError(f"the survey has tables 1 to 4, not {number}")
    types: dict[str, Any] = {"value_id": str, "reference": "Int64"} if number == 1 else {}
    return pd.read_csv(_file(f"{TABLES[number]}.csv"), dtype=types)


def lessons(folder: Path | str | None = None) -> pd.DataFrame:
    """Which notebook teaches which concept: columns concept, notebook (`01_correlation`); one row a pair.

    Read from the notebooks themselves: `avlab.concepts` in the metadata of the notebook and of its cells. `folder`
    defaults to the repository's `notebooks/`. Raises `ValueError` for a notebook that is no JSON, and for a concept
    that the survey does not have, naming the ones closest to it.

    >>> lessons("no/such/folder").empty
    True
    """
    known = set(concepts().id)
    rows = []
    for path in sorted(Path(folder or REPOSITORY / "notebooks").glob("*.ipynb")):
        for concept in _concepts_of(path):
            if concept not in known:
                near = difflib.get_close_matches(str(concept), known, n=3, cutoff=0.3)
                raise ValueError(f"{path.name} teaches {concept!r}, which the survey does not have; near: {near}")
            rows.append((concept, path.stem))
    return pd.DataFrame(rows, columns=["concept", "notebook"]).drop_duplicates(ignore_index=True)


def concept_map(folder: Path | str | None = None) -> pd.DataFrame:
    """The survey as one tree for a sunburst or treemap: id, parent, title, kind, lesson, description; 1 + 493 rows.

    The first row is a root, "survey", of kind "survey", whose parent is ""; the sections follow in the survey's order
    (draw with `sort=False`). `lesson` names the notebooks that teach the node, separated by commas, "" where none does
    yet. Raises as `lessons` does.

    >>> tree = concept_map("no/such/folder")
    >>> len(tree), tree.parent[0], tree.title[2]
    (494, '', '1 Introduction')
    """
    tree = concepts()
    taught = lessons(folder).groupby("concept").notebook.agg(", ".join).to_dict()
    tree["parent"] = tree.parent.where(tree.parent.notna(), "survey")
    tree["lesson"] = [taught.get(node, "") for node in tree.id]
    root = {"id": "survey", "parent": "", "title": "Deep audio-visual correlation learning", "kind": "survey"}
    root |= {"lesson": "", "description": "Everything that the survey treats."}
    return pd.concat([pd.DataFrame([root]), tree], ignore_index=True)[list(root)]


def _file(name: str) -> Path:
    path = REPOSITORY / "data" / "survey" / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: avlab reads the survey's data from its repository; clone it and install in place "
            "(`make lab`, or `pip install -e .` there)"
        )
    return path


def _concepts_of(path: Path) -> list[str]:
    """Ids in the metadata of a notebook and its cells, in order."""
    if path.stat().st_size > LARGEST_NOTEBOOK:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, too many for a lesson")
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        metadata = [notebook["metadata"], *(cell["metadata"] for cell in notebook["cells"])]
        return [concept for part in metadata for concept in part.get("avlab", {}).get("concepts", [])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name} is not a notebook ({error!r})") from error
