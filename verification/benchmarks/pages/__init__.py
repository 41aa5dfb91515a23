"""Pages made from the results files of studies, and from nothing else."""
