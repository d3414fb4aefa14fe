"""One command each, beside a peer or a floor of the same run; prints ratios, writes build/bench/<name>.json."""
