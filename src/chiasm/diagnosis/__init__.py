"""Diagnosis: which fault of a discharge is this?"""
