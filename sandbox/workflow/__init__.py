"""One module per noun, verbs as functions: load, decide, record.

What changes here changes in one transaction together with its audit entry. A verb that asks the enclave does so between
transactions, never inside one: it decides again in the second, because things may have changed meanwhile. `dispatch`
writes its ticket in one transaction and settles in another; `recover` joins them after a crash.
"""
