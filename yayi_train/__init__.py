"""A lean DeepSpeed trainer for the shards that yayi_data packs."""
