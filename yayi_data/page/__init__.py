"""The report page: one HTML file that shows a packed folder, or a training run, to those who would look.

`report.py` puts it together: `packed.py` and `run.py` gather the facts, `samples.py` chooses conversations,
`charts.py` draws, and `html.py` fills the templates.
"""
