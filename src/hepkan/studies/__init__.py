"""Studies: cards, runs, comparisons and scans."""
