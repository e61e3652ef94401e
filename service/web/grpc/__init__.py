"""The Open Inference Protocol over gRPC, served beside HTTP; the extra ``grpc``."""
