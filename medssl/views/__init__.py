"""Random views for contrast: batched torch operations for signals, MONAI transforms for images and volumes."""
