"""What brings a run to an experiment tracker: one file for each, which imports the tracker's own client inside its functions."""
