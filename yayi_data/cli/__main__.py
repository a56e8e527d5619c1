"""`python -m yayi_data.cli` is `yayi-data`."""

from yayi_data.cli import main

main()
