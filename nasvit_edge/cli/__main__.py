"""`python -m nasvit_edge.cli`."""

from nasvit_edge.cli import main

if __name__ == "__main__":
    main()
