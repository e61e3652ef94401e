"""The OverLoCK backbone, one file per part of the paper's figure."""
