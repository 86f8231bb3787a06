"""`python -m resyncctl`."""

from resyncctl.cli.main import main

main()
