"""The enclave's unprivileged half: keys, policy, odometer, receipts. Never parses what a job made, except strict
JSON."""
