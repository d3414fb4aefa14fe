"""The HTTP API: one router per noun, problem+json for every refusal and fault, an idempotency key on every write."""
