"""`python -m colo_fsm` is `colo-fsm`."""

from .cli import main

main()
