"""The Open Inference Protocol (KServe v2): messages as bytes, and a client. It knows no server, no load and no runtime."""
