"""Both halves of the private verification protocols: what the client does and what the platform does, side by side.

Used in the serving worker and in the client alike, so that there is one text of each protocol. docs/verification.md
says what each hides from whom.
"""
