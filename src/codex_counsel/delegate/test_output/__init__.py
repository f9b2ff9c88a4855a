"""Read the output of test runners: what made a run fail, and whether its tests began at all.

The output is data of a program that nobody trusts. So the exit code is looked at first,
then the end of the output, where a runner puts its own summary: what a tested program
prints comes before that. In doubt nothing is recognised.
"""
