"""Refuse, prove, verify: no number without plain autograd having said the same."""
