"""Kind 2: findings on a change or a plan, checked against what was reviewed."""
