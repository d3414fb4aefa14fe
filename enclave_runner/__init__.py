"""The trusted base: checks tickets, runs jailed jobs beside raw data, signs receipts. Imports nothing of sandbox."""
