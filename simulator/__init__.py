"""What it costs on this chip: kernel plans, the two engines that play them, and energy."""
