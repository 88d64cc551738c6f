"""`python -m mirrorme_service`: runs the gateway."""

from mirrorme_service.main import main

main()
