"""From a question to a skeleton: asked for, parsed while it is written or as a whole, cleaned, numbered."""
