"""What is run as a program by a test, and needs what not everybody has, is not collected."""

collect_ignore = ["ray_cluster.py"]
