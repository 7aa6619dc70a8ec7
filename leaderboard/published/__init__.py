"""Published numbers, a file a suite; a package so that they are installed with deeploc-bench."""
