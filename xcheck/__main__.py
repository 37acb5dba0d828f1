"""`python -m xcheck`."""

from .cli import main

main()
