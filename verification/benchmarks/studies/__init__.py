"""Studies: what they run, in processes of their own, and the pages made of what they measured."""
