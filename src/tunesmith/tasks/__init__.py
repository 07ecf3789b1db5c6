"""What is learned. One task turns records into features and targets, logits into outputs, and both into scores."""

TASKS: dict[str, str] = {
    "classification": "tunesmith.tasks.classification:Classification",
    "multilabel": "tunesmith.tasks.classification:MultiLabel",
    "regression": "tunesmith.tasks.classification:Regression",
    "ner": "tunesmith.tasks.entities:NamedEntities",
    "qa": "tunesmith.tasks.questions:QuestionAnswering",
}
