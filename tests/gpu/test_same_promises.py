"""What holds on a processor holds on a GPU: tests of other folders, run there."""

from __future__ import annotations

import pytest

from tests.contract.test_adapt import (  # noqa: F401
    corpus,
    test_perplexity_falls_and_the_folder_loads_and_trains,
    trained_head,
)
from tests.contract.test_engine_methods import (  # noqa: F401
    test_steps_give_the_same_loss_gradients_and_weights,
)
from tests.contract.test_engine_prefix import (  # noqa: F401
    test_a_part_works_where_it_can,
    test_states_of_another_content_are_never_found,
    test_the_boundary_follows_unfreezing,
    test_training_on_kept_states_is_training,
)
from tests.contract.test_methods import (  # noqa: F401
    test_a_few_rows_can_be_learned,
    test_a_fit_changes_exactly_the_promised_parameters,
    test_a_merged_adapter_answers_like_the_adapted_model,
    test_features_reads_the_vectors_of_an_earlier_run,
    test_what_is_saved_and_loaded_answers_the_same,
)
from tests.contract.test_pipeline import (  # noqa: F401
    test_lower_precision_is_asked_for_by_name_and_answers_nearly_the_same,
    test_plain_transformers_answers_the_same,
)
from tests.contract.test_pipeline_tokens import test_the_engine_changes_nothing  # noqa: F401
from tests.contract.test_shortage import test_predictions_do_not_need_all_rows_at_once  # noqa: F401
from tests.contract.test_steps import (  # noqa: F401
    test_a_loss_that_is_not_finite_stops_before_the_step,
    test_a_step_is_the_same_however_it_is_accumulated,
)
from tests.unit.test_engine_vocabulary import (  # noqa: F401
    bert,
    test_a_token_that_is_not_trained_is_exact_in_evaluation_and_refused_in_training,
    test_every_family_learns_the_same_weights,
    test_every_kernel_of_adamw_learns_the_same_weights,
)

pytestmark = pytest.mark.gpu
