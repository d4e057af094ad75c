"""What curves of scores over training steps show, and how sure that is: numpy alone, on arrays."""
