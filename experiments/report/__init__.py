"""HTML pages about runs: tables, curves and pictures of one run or of several."""
