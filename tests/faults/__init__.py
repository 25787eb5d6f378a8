"""One campaign that attacks the commands: names, containers, pipes, kills, full disks.

`make faults`, or `python -m tests.faults --help`. Each part makes seeded attempts and counts those
survived. An attempt is *lost* if any of this happens:

- a traceback, or an error that is not one printable line of the SDK's own;
- an end by a signal that the campaign did not send, or no end in the time that the campaign allows;
- a picture, bundle or checkpoint under its visible name that is not whole, or not what an
undisturbed run makes;
- something stays behind. After SIGKILL, hidden files beside the target may stay until the next
  complete run of the same command; after everything else nothing may.
"""
