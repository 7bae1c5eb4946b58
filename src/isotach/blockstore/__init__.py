"""The cache of one node on disk and in tmpfs: tiers, containers, the page index, eviction. Never talks to a network."""
