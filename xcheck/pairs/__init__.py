"""What a user writes: a pair, its two sides, its batches; where pair files are found, imported and started."""
