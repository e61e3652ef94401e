"""The authors' published weights: what there is, fetched once, checked, and kept."""
