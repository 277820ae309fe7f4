"""A batch of rows: which groups are kept, and which optimizer step and rank each row goes to."""
