"""The jail: every byte of data is touched by a one-shot worker in namespaces of its own, forked from a secret-free
zygote."""
