"""The survey's data: complete, consistent, and joined with the lessons."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from avlab import survey


def notebook(path: Path, concepts: list[str], cells: list[list[str]]) -> None:
    meta = [{"cell_type": "markdown", "metadata": {"avlab": {"concepts": ids}} if ids else {}} for ids in cells]
    path.write_text(json.dumps({"metadata": {"avlab": {"concepts": concepts}}, "cells": meta}))


def test_counts_are_the_surveys():
    assert len(survey.references()) == 199
    assert survey.references().number.tolist() == list(range(1, 200))
    assert len(survey.claims()) == 117
    assert "quote_anchor" not in survey.claims()
    assert survey.table(1).row_id.nunique() == 64
    assert survey.table(3).protocol.value_counts().to_dict() == {"finetune": 60, "linear": 13}
    with pytest.raises(ValueError, match="tables 1 to 4, not 5"):
        survey.table(5)


def test_the_concepts_are_one_forest_in_the_surveys_order():
    nodes = survey.concepts()
    assert nodes.id.is_unique
    parent = dict(zip(nodes.id, nodes.parent, strict=True))
    for node in parent:
        above = 0
        while not pd.isna(parent[node]):
            node, above = parent[node], above + 1
            assert above < 10, "a circle"
    tops = nodes[nodes.parent.isna()].title.str.split().str[0].tolist()
    assert tops == ["Title,", "1", "2", "3", "4", "5", "6", "A", "B", "C", "D"]
    assert not nodes.title.duplicated(keep=False)[nodes.node_type == "section"].any()
    assert nodes.title.str.len().max() <= 100


def test_every_reference_number_exists_and_every_reference_is_placed():
    placed = Counter(number for numbers in survey.concepts().references for number in numbers)
    for n in (1, 2, 3):
        cells = survey.table(n).reference.dropna().astype(str).str.split(";")
        placed.update(int(number) for row in cells for number in row)
    assert set(placed) == set(range(1, 200))


def test_every_claim_is_a_node_and_the_other_way_round():
    nodes = survey.concepts()
    ids = set(nodes.id[nodes.node_type == "claim"].str.removeprefix("claim."))
    assert ids == set(survey.claims().id)


def test_lessons_are_read_from_the_notebooks(tmp_path):
    notebook(tmp_path / "01_b.ipynb", ["sec3.2"], [["gap.hetero"], [], ["sec3.2"]])
    notebook(tmp_path / "00_a.ipynb", [], [["gap.hetero", "gap.semantic"]])
    found = survey.lessons(tmp_path)
    assert found.to_records(index=False).tolist() == [
        ("gap.hetero", "00_a"),
        ("gap.semantic", "00_a"),
        ("sec3.2", "01_b"),
        ("gap.hetero", "01_b"),
    ]
    tree = survey.concept_map(tmp_path).set_index("id")
    assert tree.lesson["gap.hetero"] == "00_a, 01_b"
    assert tree.lesson["sec3.1"] == ""


def test_the_map_is_one_tree():
    tree = survey.concept_map()
    assert len(tree) == 494
    assert set(tree.parent) - {""} <= set(tree.id)
    assert (tree.parent == "").sum() == 1
    assert tree[["id", "parent", "title", "kind", "lesson", "description"]].notna().all().all()
    order = [row for row in tree.id if row in set(survey.concepts().id)]
    assert order == survey.concepts().id.tolist()


@pytest.mark.parametrize("text", ["not json", "[]", "{}", '{"metadata": {"avlab": 3}, "cells": []}'])
def test_a_broken_notebook_is_named(tmp_path, text):
    (tmp_path / "07_broken.ipynb").write_text(text)
    with pytest.raises(ValueError, match=r"07_broken\.ipynb is not a notebook"):
        survey.lessons(tmp_path)


def test_an_unknown_concept_is_named_with_its_neighbours(tmp_path):
    notebook(tmp_path / "03_x.ipynb", ["gap.heterogeneity"], [])
    with pytest.raises(ValueError, match=r"03_x.ipynb teaches 'gap.heterogeneity'.*gap\.hetero"):
        survey.lessons(tmp_path)


def test_missing_data_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "REPOSITORY", tmp_path)
    with pytest.raises(FileNotFoundError, match="clone it and install in place"):
        survey.references()
