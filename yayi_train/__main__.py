"""`python -m yayi_train`, which is what `deepspeed --module yayi_train` runs."""

from yayi_train.cli import main

main()
