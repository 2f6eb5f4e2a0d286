"""The report: reads what an evaluation left and shows it on one page; computes nothing."""
