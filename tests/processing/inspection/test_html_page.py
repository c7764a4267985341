import re
import xml.etree.ElementTree as ElementTree

from processing.inspection.html_page import page, table


def test_table_and_page():
    element = ElementTree.fromstring(table(["", "<train>"], [["a & b", 3]]))
    assert [cell.text for cell in element.iter("th")] == ["<train>"]
    assert [cell.text for cell in element.iter("td")] == [None, "a & b", "3"]
    whole = page("<title>", "<p>body</p>")
    assert whole.startswith("<!doctype html>") and "<title>&lt;title&gt;</title>" in whole
    assert not re.search(r"https?://|<script|<link", whole)  # stands alone
