"""The tour: trains every `quick` preset and writes one page about all families."""
