"""Work that cannot change the result is not done. Knows no task, no method and no Trainer."""
