"""What the pages say, as plain data: nothing here imports Streamlit."""
