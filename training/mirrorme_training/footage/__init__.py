"""Real footage: videos of people into clips that training reads like the procedural ones."""
