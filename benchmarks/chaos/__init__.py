"""Chaos: the whole system on real servers, disturbed at random, against a run left alone."""
