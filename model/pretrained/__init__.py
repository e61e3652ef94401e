"""The authors' published weights: download, verification and cache."""
