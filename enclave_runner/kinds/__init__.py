"""What runs inside the jail, one module per kind of work: `run(task, descriptors) -> answer`. No noise is added
here."""
