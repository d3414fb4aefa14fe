"""The only package that opens raw data. What it hands out are descriptors for jailed workers."""
