"""The user's input: a pair, its two sides, its batches; finding, importing and creating pair files."""
