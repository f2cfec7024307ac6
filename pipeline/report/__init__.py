"""Write the page of a label run: ``report.html``, one file that works offline."""
