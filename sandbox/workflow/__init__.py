"""One module per verb: load, decide, record; one transaction and one audit entry each."""
