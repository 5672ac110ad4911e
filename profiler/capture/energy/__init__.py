"""Energy of the devices that a captured program runs on: sources, the sampling thread, and the meter around both."""
