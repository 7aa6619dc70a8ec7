"""`python -m deeploc_bench`."""

from deeploc_bench.cli import main

if __name__ == "__main__":
    main()
