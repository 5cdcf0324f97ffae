"""Random views for contrast, drawn for a whole batch at once on its device."""
