"""Seeds → talking heads with exact labels, rendered from a CC0 mesh: the default corpus."""
