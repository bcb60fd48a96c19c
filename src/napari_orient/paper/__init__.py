"""The paper's experiment, made of the program's own verbs."""
