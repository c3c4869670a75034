"""ResMem: a memory of what a trained model gets wrong, added to what it answers."""
