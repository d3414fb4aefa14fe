"""From an operator's SQL text to a small frozen plan: parsed to an allow-listed tree, bound to bounds, rendered by
us."""
