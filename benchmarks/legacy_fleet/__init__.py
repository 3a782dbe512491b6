"""The fleet that this project replaces, small but faithful.

Prep workers (one process each, `--pool=solo`) fetch, transform or tokenise, write a `.npy` file to the hand-off
directory and send a task to the model's embed queue. One embed worker a model (`--pool=solo`) collects a batch,
computes, and then writes its results XADD by XADD. Every role and every process has telemetry keys of its own.

The models and transforms are open_clip's and transformers' own: nothing here is shared with the new worker but the
settings file, so that a comparison of the two means something. (No prep worker loads a model to get at its transform,
as many real ones do: that would flatter the new worker.)
"""
