"""Measures of what the model makes, taken from pixels alone and fitted on rendered truth alone."""
