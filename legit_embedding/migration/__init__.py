"""From an old fleet to one worker: which tasks go where, whether the vectors agree, and what to mend before."""
