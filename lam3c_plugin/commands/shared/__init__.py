"""What several subcommands share: options, inputs, outputs."""
