"""How the weights are found: schedule and finder of the learning rate, precision, several devices."""
