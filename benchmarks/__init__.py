"""One command each, beside a peer or a floor measured in the same run; prints ratios and writes build/bench/<name>.json."""
