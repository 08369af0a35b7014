"""Watchkeep: finds what is abnormal on a Kubernetes platform while it happens, and explains it."""
