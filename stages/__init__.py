"""The three stages as LightningModules: losses, steps, optimizer."""
