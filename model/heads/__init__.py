"""Task heads: from features to logits, label maps or detections."""
