"""What a table holds: which column is what (`find_layout`), and its rows as records (`to_records`)."""

from tunesmith.data.layout.base import Layout
from tunesmith.data.layout.conversion import to_records
from tunesmith.data.layout.finding import OWN_FORMS, find_layout, layout_of_other

__all__ = ["OWN_FORMS", "Layout", "find_layout", "layout_of_other", "to_records"]
