"""Load for running services, sent at times fixed beforehand: `python -m scripts.load --stage RATE:SECONDS`."""
