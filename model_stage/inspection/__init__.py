"""Looking into published bundles: what they are, how they differ, whether they are whole, what they have learned."""
