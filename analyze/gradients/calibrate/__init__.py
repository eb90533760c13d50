"""Find the plan: where the weights meet the examples, which rule measures each parameter."""
