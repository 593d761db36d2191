"""What config files share."""
