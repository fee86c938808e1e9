"""Let several processes train one network."""
