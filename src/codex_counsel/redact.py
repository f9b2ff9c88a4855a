"""Placeholder until the real one is in place."""
def secret_name(path: str) -> str | None:
    name = path.rsplit("/", 1)[-1]
    return "env" if name == ".env" else None
def mask(text: str) -> tuple[str, int]:
    return text, 0
