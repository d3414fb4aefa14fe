"""SQL only: tables, ledgers that are only ever added to, and the audit log."""
