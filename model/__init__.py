"""The machine learning: pure functions over arrays, with no web and no database."""
