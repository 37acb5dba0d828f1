"""Renderers of a `Result`: terminal, HTML and JUnit. They read the result and compute nothing new."""
