"""What a run looks like: plots and one self-contained page. Reads run folders only."""
