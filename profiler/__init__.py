"""What ran: operations, traces, their costs, and the ways a trace comes to be."""
