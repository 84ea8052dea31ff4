"""Why a recipe does not pay, one question a module: slower, not smaller, less accurate. Each answers from evidence, in single sentences."""
