"""Bones and density-measuring regions on the CT."""
