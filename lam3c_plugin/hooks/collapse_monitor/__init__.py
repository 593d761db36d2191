"""The collapse monitor: measures, rules, the hook."""
