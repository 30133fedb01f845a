"""Index generations: attention vectors of a store's nodes, opened, checked, built and published."""
