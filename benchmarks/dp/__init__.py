"""`make bench-dp`: the private SQL engine beside its peers and plain DuckDB, on the same data at the same loss."""
