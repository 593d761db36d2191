"""What every stage shares: record, scene folder, run over many items."""
