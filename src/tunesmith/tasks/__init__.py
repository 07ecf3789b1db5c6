"""What is learned. One task turns records into targets, logits into predictions, and both into scores."""

TASKS: dict[str, str] = {
    "classification": "tunesmith.tasks.classification:Classification",
    "multilabel": "tunesmith.tasks.classification:MultiLabel",
    "regression": "tunesmith.tasks.classification:Regression",
}
