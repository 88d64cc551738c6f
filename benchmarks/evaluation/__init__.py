"""What `evaluate.py` measures, group by group, through a running gateway."""
