"""What schema.yaml, targets.yaml and train.yaml may say."""
