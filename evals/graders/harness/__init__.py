"""Programs that run inside the sandbox. They use the standard library only, and any Python from 3.10 on."""
