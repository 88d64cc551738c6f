"""`python -m mirrorme_training`: what launchers of several processes start."""

from mirrorme_training.cli import main

main()
