"""``fb run compare-models`` under the name that people know."""

import sys

from flat_bug.cli.main import main

if __name__ == "__main__":
    main(["run", "compare-models", *sys.argv[1:]])
