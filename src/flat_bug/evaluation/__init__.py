"""Match instances with ground truth, score them, and show the result."""
