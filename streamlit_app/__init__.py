"""The site: renders the sections' sources, runs the labs, shows progress. ``streamlit run streamlit_app/app.py``."""
