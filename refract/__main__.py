"""``python -m refract``: the course's command line."""

import sys

try:
    from refract.cli import main
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] == "refract":
        raise
    sys.exit(
        f"This Python ({sys.executable}) has no module {error.name!r}.\n"
        "  Use the virtual environment that the README sets up, or run: python -m pip install -r requirements.txt"
    )

if __name__ == "__main__":
    main()
