"""The `semlink` command."""
