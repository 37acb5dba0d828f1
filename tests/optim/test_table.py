"""The page docs/optimizers.md: what `--check` takes for a change, and that the file lists the cases."""

import pytest
from table_optimizers import CASES, PAGE, changed, page, read

ROWS = [("SGD", 2e-16, 5e-15, 4e-16, 4e-16), ("Adam", 3e-3, 3e-3, 2e-16, 3e-16)]


def test_a_page_reads_back():
    assert read(page(ROWS)) == ROWS


def test_the_file_has_a_row_for_each_case():
    assert [row[0] for row in read(PAGE.read_text(encoding="utf-8"))] == [case.name for case in CASES]


def test_other_digits_are_no_change():
    assert not changed(ROWS, [("SGD", 0.0, 1e-13, 0.0, 4e-16), ("Adam", 8e-3, 1e-3, 9e-16, 1e-15)])


@pytest.mark.parametrize(
    "now",
    [
        [ROWS[0]],
        [ROWS[0], ("Adam", 3e-3, 3e-5, 2e-16, 3e-16)],
        [ROWS[0], ("Adam", 3e-3, 3e-3, 2e-9, 3e-16)],
        [ROWS[0], ("Adam", 0.0, 3e-3, 2e-16, 3e-16)],
        [("SGD", 2e-16, 5e-8, 4e-16, 4e-16), ROWS[1]],
    ],
)
def test_other_orders_of_magnitude_are(now):
    assert len(changed(ROWS, now)) == 1
