"""One thin script per DVC stage: read parameters, call medssl, write outputs."""
