"""Mutated files through the readers, and kills during writes."""
