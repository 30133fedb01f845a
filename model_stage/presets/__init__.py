"""The packaged presets, one YAML file each; `model_stage.networks.preset` reads them."""
