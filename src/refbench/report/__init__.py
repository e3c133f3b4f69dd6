"""Reports: a terminal table, one HTML file, Markdown, JSON and pyperf's JSON.

All of them show the same :mod:`refbench.report.summary`; two environments or two clocks never
share a table.
"""
