"""What scripts for other job managers expect of ours."""
