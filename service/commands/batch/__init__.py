"""``overlock batch``: many images to Parquet files, on Ray Data, restartable at any moment."""
