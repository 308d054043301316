"""How fast, beside what a user would pick instead. Ratios in one run; the machine is shared."""
