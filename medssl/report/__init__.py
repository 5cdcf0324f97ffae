"""What people look at: plots, the model card, the HTML report."""
