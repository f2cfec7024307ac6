"""Write and read rows in every format, and in BigQuery."""
