"""`python -m mirrorme_client`: the same as `mirrorme`."""

from mirrorme_client.cli import main

main()
