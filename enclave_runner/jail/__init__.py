"""The jail: every byte of data is touched by a worker in namespaces of its own, forked from a secret-free zygote. A
worker does one job and is gone; one that serves a product is held, in the same jail, for as long as its ticket."""
