"""Fine-tuning: train on each task's new clips alone. The floor: what happens when nothing is done about forgetting."""

from engine.gradient import GradientLearner


class FineTuning(GradientLearner):
    """Cross-entropy over all classes seen, on new clips only: what GradientLearner does by itself."""
