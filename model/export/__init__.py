"""Files of classifiers and segmenters for other runtimes: ONNX and ``torch.export``."""
