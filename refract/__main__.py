"""``python -m refract``: the course's command line."""

from refract.cli import main

if __name__ == "__main__":
    main()
