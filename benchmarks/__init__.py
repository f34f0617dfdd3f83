"""What things cost, measured on a real server."""
