"""Evaluation of a cohort: the scores of its Report and the gates that decide its release."""
