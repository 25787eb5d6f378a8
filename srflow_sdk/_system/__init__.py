"""Of the operating system: files that appear whole, locks, hashes. Under everything else; imports nothing of ours."""
