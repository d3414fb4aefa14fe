"""The egress gate: exact vectors become noisy typed tables here, and only what is built here can be released."""
