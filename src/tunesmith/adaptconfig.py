"""The settings of `adapt`: those of `train` that say what is read, and how masked-language-model training goes."""

from __future__ import annotations

from pydantic import Field

from tunesmith.config import (
    DataSettings,
    EngineSettings,
    OptimisationSettings,
    OutputSettings,
    Section,
    SourceSettings,
    TaskSettings,
    option,
)


class AdaptationSettings(OptimisationSettings):
    """Masked-language-model training."""

    epochs: int = option(3, "Passes over the training text.", "--epochs", ge=1)
    masked_share: float = option(0.15, "Share of the tokens that is predicted.", gt=0, lt=1)
    head_steps: int = option(200, "Steps, in whole passes, that train a fresh head alone, before the body moves.", ge=1)


class AdaptConfig(Section):
    """Everything that decides how a model is adapted to a domain, except the texts themselves."""

    data: DataSettings = Field(default_factory=DataSettings)
    task: TaskSettings = Field(default_factory=TaskSettings)
    model: SourceSettings = Field(default_factory=SourceSettings)
    training: AdaptationSettings = Field(default_factory=AdaptationSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    output: OutputSettings = Field(default_factory=OutputSettings)
