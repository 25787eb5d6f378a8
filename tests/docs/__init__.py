"""The documentation's own tests: every command and code block on every page is run, or checked and
marked.

What to do when you write a page:

- A block without a language is shell, and runs in bash. ` ```python ` runs too. ` ```console ` runs
  the lines that begin with `$ `; lines with `error: ` below them must really be printed (… stands
  for any characters). ` ```text `, json, toml, c … are not run.
- Blocks run in order, each page in a folder of its own, which `prepared.py` fills: photographs,
  folders, bundles and checkpoints under the names that pages use. Trainings and reports are
  shortened there.
- A block that needs names of its own (`photo`, `up`) gets them from an invisible comment before it:

      <!-- setup:
      photo = Image.open("photo.jpg")
      -->

- A block that CI cannot run says why, in a comment before it: `<!-- not run: needs a GPU -->`. Its
  commands are still checked against the options that exist.
- A block that is meant to fail: `<!-- exit status 1 -->`.
"""
