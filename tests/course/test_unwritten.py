"""A stub that is run says which exercise it is; any other error is shown as ever, and a run of all cells stops."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

STUB = 'raise NotImplementedError("your code here")'
BEGIN = "from refract import unwritten; unwritten.explain()"


def run(*cells: str) -> list[nbformat.NotebookNode]:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (BEGIN, *cells)])
    NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    return notebook.cells


@pytest.mark.parametrize(
    ("definition", "call", "name"),
    [
        (f"def double(x):\n    {STUB}", "double(2)", "double"),
        (f"class Coder:\n    def encode(self, x):\n        {STUB}", "Coder().encode(2)", "Coder"),
        (f"def double(x):\n    {STUB}\n\ndef four(x):\n    return double(double(x))", "four(2)", "double"),
    ],
)
def test_a_stub_that_is_run_says_which_and_what_to_do(definition, call, name):
    outputs = run(definition, call)[-1].outputs
    assert [output.output_type for output in outputs] == ["error", "stream"]
    assert outputs[0].ename == "NotImplementedError"
    assert f"{name} is not written yet." in outputs[1].text
    assert f'{name} = solution("{name}")' in outputs[1].text


def test_another_error_is_shown_as_ever():
    outputs = run('raise NotImplementedError("no kernel for this dtype")')[-1].outputs
    assert [output.output_type for output in outputs] == ["error"]
    assert "no kernel for this dtype" in outputs[0].evalue


def test_run_all_still_stops_there():
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in (BEGIN, STUB, "print('not reached')")]
    )
    with pytest.raises(Exception, match="your code here"):
        NotebookClient(notebook, kernel_name="python3").execute()
    assert not notebook.cells[-1].outputs
