"""The commands srflow-upscale, srflow-restore, srflow-transfer and srflow-doctor, and the options
that they share.
"""
