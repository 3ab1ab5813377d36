"""Prints a table of its arguments and their lengths, after looking for a shell."""

import os
import sys

from tabulate import tabulate

if any(os.path.exists(f"{d}/sh") for d in os.get_exec_path()):
    sys.exit("there is a shell here")
print(tabulate([(name, len(name)) for name in sys.argv[1:]], headers=["name", "letters"]))
