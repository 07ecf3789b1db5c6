"""From a trained model to an artefact, which answers without torch; see `tunesmith.artefact`."""
