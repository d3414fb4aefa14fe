"""Pure decisions: values and policies in, a Decision out."""
