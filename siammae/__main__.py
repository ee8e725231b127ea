"""`python -m siammae`, and `torchrun --module siammae`."""

from siammae.cli import main

main()
