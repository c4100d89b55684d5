"""What the machine is and gives: CPUs, memory, signals, threads, the service manager."""
