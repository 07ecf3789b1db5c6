"""How much of a model is trained. One file a method; a method knows no task."""

METHODS: dict[str, str] = {
    "full": "tunesmith.methods.full:Full",
    "features": "tunesmith.methods.features:FeatureExtraction",
    "freeze": "tunesmith.methods.freeze:Freeze",
    "gradual": "tunesmith.methods.gradual:Gradual",
    "lora": "tunesmith.methods.lora:Lora",
}
