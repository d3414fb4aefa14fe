"""What a business or an auditor runs on its own machine: it needs the contract's values and nothing of the server."""
