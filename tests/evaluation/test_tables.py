"""Tables: Markdown for terminals and documents, HTML for pages."""

from srflow_evaluation.tables import Table


def test_a_table_is_written_as_markdown_with_its_notes():
    table = Table(["method", "PSNR"], [["a", "1"], ["b", ""]], ["A note."])
    assert str(table) == "| method | PSNR |\n|---|---|\n| a | 1 |\n| b |  |\n\nA note."


def test_further_tables_follow_below_their_titles_with_their_own_notes():
    below = Table(["b"], [["2"]], ["Second."], title="Below")
    table = Table(["a"], [["1"]], ["First."], title="Above", more=[below])
    assert str(table) == ("### Above\n\n| a |\n|---|\n| 1 |\n\nFirst.\n\n### Below\n\n| b |\n|---|\n| 2 |\n\nSecond.")
    assert table.parts == [table, below]
    assert "Below" not in table.html


def test_html_has_a_heading_for_each_row_and_column_and_every_text_is_escaped():
    table = Table(["method", "a < b"], [["<script>", "1 & 2"]], ["A note."])
    assert table.html == (
        '<table><thead><tr><th scope="col">method</th><th scope="col">a &lt; b</th></tr></thead><tbody>\n'
        '<tr><th scope="row">&lt;script&gt;</th><td>1 &amp; 2</td></tr>\n'
        "</tbody></table>"
    )
